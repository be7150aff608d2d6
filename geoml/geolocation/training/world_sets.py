"""Features of the world-scale `overhead` set: places, splits, views of each, and the pictures that ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.errors import InputError
from geoml.geolocation.locate.features import Extractor, compute
from geoml.geolocation.training import foreign, season, world
from geoml.geolocation.training import splits as geosplits
from geoml.geolocation.training.recipe import GeoRecipe, WorldSource
from geoml.geolocation.training.world import View, World

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureSet:
    """(N, F) features with the places (N,) they were seen at, degrees."""

    features: NDArray[np.float32]
    lon: Floats
    lat: Floats

    def __len__(self) -> int:
        return len(self.lon)

    def take(self, rows: NDArray[np.int64]) -> FeatureSet:
        """Some of the pictures."""
        return FeatureSet(self.features[rows], self.lon[rows], self.lat[rows])


@dataclass(frozen=True)
class SplitPlaces:
    """(N, 2) lon, lat of each set; queries of the three sets are apart as the splits say."""

    train: Floats
    val: Floats
    val_blocks: Floats
    in_region: Floats
    held_out: Floats


@dataclass(frozen=True)
class WorldSets:
    """Features of every set; ``tests`` by name: ``in-region``, ``held-out`` and, if given, ``other-month``.

    ``foreign`` by kind are (N, F) features of pictures that the locator is not for, ``foreign_val`` those of others.
    """

    train: FeatureSet
    val: FeatureSet
    val_blocks: FeatureSet
    tests: dict[str, FeatureSet]
    foreign: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    foreign_val: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def choose(recipe: GeoRecipe, land: NDArray[np.bool_]) -> SplitPlaces:
    """The places of every set, the same for the same seed; checked for leaks.

    In-region queries are other random places of the blocks that train, so crops of them overlap with crops of training;
    held-out blocks are those of which nothing trained, nor within the gap. Raises InputError when too few are found.
    """
    source, split = _source(recipe), recipe.split
    need = source.queries + source.calibration
    held = max(split.test, split.val, 1e-9)
    extra = int(need / min(v for v in (split.test, split.val, 1.0) if v > 0) * 1.5) if held > 1e-9 else 2 * need
    drawn = world.places(land, source.places + extra, recipe.seed, 0.5, 500.0, source.south, source.north)
    pool, asked = drawn[: source.places], drawn[source.places :]
    of_pool = geosplits.blocks(pool, split.test, split.val, split.degrees, recipe.seed)
    of_asked = geosplits.blocks(asked, split.test, split.val, split.degrees, recipe.seed)
    here = asked[of_asked == "train"]
    blocks, val_blocks = asked[of_asked == "test"][: source.queries], asked[of_asked == "val"]
    val_blocks = val_blocks[geosplits.apart(val_blocks, blocks, split.gap_km)][: source.calibration]
    train = pool[of_pool == "train"]
    train = train[geosplits.apart(train, np.concatenate([blocks, val_blocks]), split.gap_km)]
    places = SplitPlaces(train, here[source.queries : need], val_blocks, here[: source.queries], blocks)
    if len(train) < 16 or len(places.val) < 8:
        raise InputError(f"split: {len(train)} places to train on and {len(places.val)} to calibrate; draw more places")
    geosplits.check({"train": train, "held-out": blocks, "val-blocks": val_blocks}, split.gap_km)
    geosplits.check({"train": train, "in-region": places.in_region, "val": places.val}, 0.0)
    return places


def prepare(
    recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None, answering: Extractor | None = None
) -> WorldSets:
    """Features of every set, read from the cache where they are there. Raises as `choose` and `world.read`.

    Validation and tests are seen by ``answering`` if that is given: what is written may be rounded.
    """
    source, places, answering = _source(recipe), _places(recipe), answering or extractor
    picture = world.read(world.find(source.picture))
    seen, asked = partial(_seen, recipe, extractor, cache), partial(_seen, recipe, answering, cache)
    of_train = [seen(picture, places.train, 100 + k) for k in range(recipe.views.clean)]
    of_train += [seen(picture, places.train, 200 + k, True) for k in range(recipe.views.seasons)]
    of_train += [seen(world.read(world.find(p)), places.train, 300 + k) for k, p in enumerate(source.renderings)]
    return WorldSets(
        train=joined(of_train),
        val=asked(picture, places.val, 3),
        val_blocks=asked(picture, places.val_blocks, 4),
        tests=tests(recipe, answering, cache),
        foreign=_foreign(recipe, picture, extractor, cache, 400),
        foreign_val=_foreign(recipe, picture, answering, cache, 401),
    )


def _foreign(
    recipe: GeoRecipe, picture: World, extractor: Extractor, cache: str | Path | None, number: int
) -> dict[str, NDArray[np.float32]]:
    source = _source(recipe)
    how = source.foreign
    if how is None:
        return {}
    material = foreign.Material(
        picture,
        world.read_land(world.find(source.land)),
        tuple(world.read(world.find(path)) for path in how.maps),
        tuple(foreign.read_scene(resolve(path)) for path in how.scenes),
        source.width_km,
        source.south,
        source.north,
    )
    count, seed = (how.pictures if number == 400 else how.calibration), 1000 * recipe.seed + number
    made = partial(foreign.pictures, material, count=count, size=extractor.size, seed=seed)
    return {kind: compute(made(kind=kind), extractor, cache) for kind in foreign.KINDS}


def tests(recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None) -> dict[str, FeatureSet]:
    """Features of the test sets alone, by name."""
    source, places = _source(recipe), _places(recipe)
    picture = world.read(world.find(source.picture))
    seen = partial(_seen, recipe, extractor, cache)
    found = {"in-region": seen(picture, places.in_region, 1), "held-out": seen(picture, places.held_out, 2)}
    if source.other is not None:  # the very views of the in-region queries, in another month
        found["other-month"] = seen(world.read(world.find(source.other)), places.in_region, 1)
    return {k: v for k, v in found.items() if len(v)}


def _places(recipe: GeoRecipe) -> SplitPlaces:
    return choose(recipe, world.read_land(world.find(_source(recipe).land)))


def _source(recipe: GeoRecipe) -> WorldSource:
    if not isinstance(recipe.source, WorldSource):
        raise InputError(f"source: {recipe.source.kind}; expected world")
    return recipe.source


def _seen(
    recipe: GeoRecipe,
    extractor: Extractor,
    cache: str | Path | None,
    picture: World,
    where: Floats,
    number: int,
    other_look: bool = False,
) -> FeatureSet:
    seed = 1000 * recipe.seed + number
    views = world.views(where, _source(recipe).width_km, seed)
    rgb = _looks(picture, views, extractor.size, seed) if other_look else world.crops(picture, views, extractor.size)
    return FeatureSet(compute(rgb, extractor, cache), where[:, 0], where[:, 1])


def joined(sets: Sequence[FeatureSet]) -> FeatureSet:
    """One set after the other."""
    return FeatureSet(
        np.concatenate([s.features for s in sets]),
        np.concatenate([s.lon for s in sets]),
        np.concatenate([s.lat for s in sets]),
    )


def _looks(world_: World, views: Sequence[View], size: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    for i, rgb in enumerate(world.crops(world_, views, size)):
        yield season.vary(rgb, np.random.default_rng([seed, i]))
