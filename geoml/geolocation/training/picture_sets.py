"""Pictures with positions of their own as sets to train and to ask: lists of any layout, folders with EXIF.

Held-out blocks of degrees are never trained; in-region queries and those that calibrate are other pictures of the
blocks that train. One picture of a sequence is kept and so many of a place, and a copy, a sequence or a near place in
two sets fails the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.errors import InputError
from geoml.geolocation.locate.features import Extractor, compute
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.positions import Positioned, positioned
from geoml.geolocation.pictures.prepare import square
from geoml.geolocation.training import balance, crop_augmentation
from geoml.geolocation.training import splits as geosplits
from geoml.geolocation.training.crop_augmentation import Kind
from geoml.geolocation.training.recipe import GeoRecipe, PictureSource
from geoml.geolocation.training.sampling import PictureSampler, Pixels, epoch
from geoml.geolocation.training.world_sets import FeatureSet, FeatureSets, joined
from geoml.grid import sphere
from geoml.io.stores.remote import is_url

LARGER = 1.4
"""Times the side of what the backbone sees at which pictures are read that are cropped and turned."""


@dataclass(frozen=True)
class PictureSets:
    """The pictures of every set; ``tests`` by name."""

    train: list[Positioned]
    val: list[Positioned]
    val_blocks: list[Positioned]
    tests: dict[str, list[Positioned]]


def choose(recipe: GeoRecipe) -> PictureSets:
    """The pictures of every set, the same for the same seed; checked for leaks.

    Raises InputError for too few pictures and for a leak, and as `geoml.geolocation.pictures.positions.positioned`.
    """
    source, split = _source(recipe), recipe.split
    every = list({p.sha256: p for p in reversed(_placed(source.pictures))}.values())[::-1]  # of copies the first
    every = [every[i] for i in balance.one_per_sequence([p.sequence for p in every], recipe.seed)]
    if source.per_place is not None:
        degrees = source.place_km / (np.pi / 180 * sphere.EARTH_RADIUS_KM)
        lon, lat = lonlat(every).T
        place = balance.coarse(lon, lat, degrees)
        every = [every[i] for i in balance.cap(place, source.per_place, recipe.seed)]
    block_split = geosplits.blocks(lonlat(every), split.test, split.val, split.degrees, recipe.seed)
    order = np.random.default_rng([recipe.seed, 0x515]).permutation(len(every))
    by = {name: [every[i] for i in order if block_split[i] == name] for name in ("train", "val", "test")}
    held = by["test"][: source.queries]
    val_blocks = _apart(by["val"], held, split.gap_km)[: source.calibration]
    first, second = min(source.queries, len(by["train"]) // 5), min(source.calibration, len(by["train"]) // 5)
    here, val, rest = (by["train"][a:b] for a, b in ((0, first), (first, first + second), (first + second, None)))
    train = _apart(rest, held + val_blocks, split.gap_km)
    if len(train) < 16 or len(val) < 20:
        raise InputError(f"pictures: {len(train)} to train on and {len(val)} to calibrate; expected 16 and 20 or more")
    tests = {"in-region": here, "held-out": held}
    tests |= {name: _placed([text]) for name, text in source.tests.items()}
    sets = PictureSets(train, val, val_blocks, {name: pictures for name, pictures in tests.items() if pictures})
    far = {"train": train, "held-out": held, "val-blocks": val_blocks}
    geosplits.check({name: lonlat(pictures) for name, pictures in far.items()}, split.gap_km)
    named = {"train": train, "val": val, "val-blocks": val_blocks, **sets.tests}
    copies = {name: [p.sha256 for p in pictures] for name, pictures in named.items()}
    sequences = {name: [p.sequence for p in pictures] for name, pictures in named.items()}
    geosplits.check(dict.fromkeys(named, np.zeros((0, 2))), 0.0, copies, sequences)
    return sets


def _placed(sources: Iterable[str]) -> list[Positioned]:
    """Raises InputError for a folder of the machine that is not set, and as
    `geoml.geolocation.pictures.positions.positioned`."""
    return positioned(s if is_url(s) else resolve(s) for s in sources)[0]


def lonlat(pictures: Sequence[Positioned]) -> NDArray[np.float64]:
    """(N, 2) degrees."""
    return np.array([(p.lon, p.lat) for p in pictures], float).reshape(-1, 2)


def prepare(
    recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None, answering: Extractor | None = None
) -> FeatureSets:
    """Features of every set, read from the cache where they are there; validation and tests are seen by ``answering``
    if that is given.

    Raises InputError for too few pictures or a leak, NothingFound if none is left, DataError for one that cannot be
    read, ModelError for features that are not finite.
    """
    sets, views, answering = choose(recipe), recipe.views, answering or extractor
    train = [_features(sets.train, extractor, cache)]
    for number in range(1, views.clean + views.seasons):
        train.append(_features(sets.train, extractor, cache, (recipe.kind, 1000 * recipe.seed + number)))
    return FeatureSets(
        train=joined(train),
        val=_features(sets.val, answering, cache),
        val_blocks=_features(sets.val_blocks, answering, cache),
        tests={name: _features(pictures, answering, cache) for name, pictures in sets.tests.items()},
    )


def tests(
    recipe: GeoRecipe, extractor: Extractor, cache: str | Path | None
) -> tuple[dict[str, FeatureSet], NDArray[np.float64]]:
    """Features of the test sets alone, by name, and the places (N, 2) of training.

    Raises InputError for too few pictures or a leak, NothingFound if none is left, DataError for one that cannot be
    read, ModelError for features that are not finite.
    """
    sets = choose(recipe)
    return {name: _features(those, extractor, cache) for name, those in sets.tests.items()}, lonlat(sets.train)


@dataclass(frozen=True)
class ListSampler(PictureSampler):
    """Pictures that are read, cropped and lit again in every epoch, see
    `geoml.geolocation.training.crop_augmentation`."""

    placed: tuple[Positioned, ...]
    kind: Kind

    def pictures(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> list[Pixels]:
        return [_augmented(self.placed[row], self.size, self.kind, rng) for row, rng in zip(rows, rngs, strict=True)]


def sampler(recipe: GeoRecipe, size: int) -> ListSampler:
    """What a recipe's training sees. An epoch has as many pictures as there are views of the training pictures."""
    train = choose(recipe).train
    at = lonlat(train)
    weight, count = epoch(at, recipe.views.clean + recipe.views.seasons, recipe.training)
    return ListSampler(at, weight, count, size, recipe.seed, tuple(train), recipe.kind)


def read(picture: Positioned, size: int) -> Pixels:
    """(size, size, 3) uint8 of the middle of a picture.

    Raises UnreadablePhoto, InputError for a reference that is refused, TransientError if a server should be asked
    again.
    """
    return square(photo_lists.load(picture.reference, size).rgb, size)


def _augmented(picture: Positioned, size: int, kind: Kind, rng: np.random.Generator) -> Pixels:
    return crop_augmentation.augment(read(picture, round(LARGER * size)), size, kind, rng)


def _apart(pictures: list[Positioned], held: list[Positioned], gap_km: float) -> list[Positioned]:
    far = geosplits.apart(lonlat(pictures), lonlat(held), gap_km)
    return [p for p, ok in zip(pictures, far, strict=True) if ok]


def _features(
    pictures: Sequence[Positioned],
    extractor: Extractor,
    cache: str | Path | None,
    augmented: tuple[Kind, int] | None = None,
) -> FeatureSet:
    """Features of the middles of pictures, or of random crops for a kind, by a seed."""

    def crops() -> Iterator[Pixels]:
        for i, picture in enumerate(pictures):
            if augmented is None:
                yield read(picture, extractor.size)
            else:
                kind, seed = augmented
                yield _augmented(picture, extractor.size, kind, np.random.default_rng([seed, i]))

    return FeatureSet(compute(crops(), extractor, cache), *lonlat(pictures).T)


def _source(recipe: GeoRecipe) -> PictureSource:
    if not isinstance(recipe.source, PictureSource):
        raise InputError(f"source: {recipe.source.kind}; expected pictures")
    return recipe.source
