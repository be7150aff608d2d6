"""Clouds with classes as training has them: files by split, what their codes mean, and chips that are cut of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.elevation.training.recipe import CloudFiles, PointAugmentation, PointRecipe
from geoml.engine.packages.points import PointColumns, columns_of
from geoml.errors import DataError, InputError, NothingFound
from geoml.io.points.cloud import Cloud
from geoml.io.points.read import read_window
from geoml.io.points.source import open_source

SHIFT = 16_000
"""mm that a training cloud is shifted by against the lattice at most; voxels of the upper levels are smaller."""
LEAST = 64
"""Points of a chip; one with fewer has nothing to learn from."""
GROUND = 1000
"""mm: cells of ground, by which it is looked at whether two files share some."""
SHARED = 0.01
"""Share of the cells of the smaller one from which on they do: tiles that touch have those of an edge in common."""


@dataclass(frozen=True, eq=False)
class LabelledCloud:
    """``columns`` are what a network sees of the ``cloud``. ``may`` (n,) int64: the classes that each point may be as
    bits, 0 where that is not known."""

    name: str
    cloud: Cloud
    columns: PointColumns
    may: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.may)


def clouds(recipe: PointRecipe, *splits: str) -> list[LabelledCloud]:
    """Those of some splits, in the order of the recipe and of their names.

    Raises NothingFound if there is none, InputError for a pattern without a file and for ground that two splits have
    in common, DataError for a file that cannot be read, MissingExtra without laspy.
    """
    found: dict[str, list[LabelledCloud]] = {}
    for source in recipe.sources:
        for path in _paths(source):
            if (part := recipe.split.of(path.name)) != "never":
                found.setdefault(part, []).append(read(path, source, recipe.meant(source)))
    _check_ground(found)
    chosen = [cloud for split in splits for cloud in found.get(split, [])]
    if not chosen:
        raise NothingFound(f"split: no file of {' or '.join(splits)}")
    return chosen


def read(path: Path, source: CloudFiles, meant: dict[int, int]) -> LabelledCloud:
    """One file as `geoml.io.points.read.read_window` gives it: in metres, without withheld points and noise.

    Raises InputError for one without a CRS, DataError for one that cannot be read, MissingExtra without laspy.
    """
    everywhere = (-math.inf, -math.inf, math.inf, math.inf)
    cloud = read_window([open_source(str(path), source.crs, source.vertical)], everywhere)
    if not len(cloud):
        raise DataError(f"{path}: no point in it; expected some with classes")
    bits = np.zeros(256, np.int64)
    for value, classes in meant.items():
        bits[value] = classes
    return LabelledCloud(path.name, cloud, columns_of(cloud), bits[cloud.classification])


def chip(
    clouds: Sequence[LabelledCloud], size: float, how: PointAugmentation, random: np.random.Generator
) -> tuple[PointColumns, NDArray[np.int64]]:
    """A piece of one of the clouds, by how many points they have, turned, scaled, thinned and shifted by chance.

    Its columns (n rows) and which classes each point may be (n,).
    """
    count = np.array([len(cloud) for cloud in clouds], np.float64)
    cloud = clouds[random.choice(len(clouds), p=count / count.sum())]
    points = cloud.columns.points.astype(np.float64)
    points -= points.mean(0)
    angle = random.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[0] *= random.choice([-1, 1])
    factor = 1 + how.scale * random.uniform(-1, 1, 2)
    points[:, :2] = points[:, :2] @ (turn.T * factor[0])
    points[:, 2] *= factor[1]
    share = random.uniform(how.thin, 1)
    kept = random.random(len(points)) < share
    centre = points[random.integers(len(points)), :2]
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    half = size * 500
    centre = np.where(high - low <= 2 * half, (low + high) / 2, np.clip(centre, low + half, high - half))
    kept &= (np.abs(points[:, :2] - centre) <= half).all(1)
    moved = np.rint(points[kept] + random.uniform(0, SHIFT, 3)).astype(np.int64)
    columns = PointColumns(moved, cloud.columns.returned[kept], cloud.columns.returns[kept])
    return columns, cloud.may[kept]


def _paths(source: CloudFiles) -> list[Path]:
    paths: list[Path] = []
    for pattern in source.files:
        place = resolve(pattern)
        some = sorted(place.parent.glob(place.name))
        if not some:
            raise InputError(f"sources: {pattern}: no such file")
        paths += some
    return paths


def _check_ground(found: dict[str, list[LabelledCloud]]) -> None:
    """Raise InputError if files of two splits lie on the same ground."""
    ground = {part: [(cloud.name, _ground(cloud)) for cloud in those] for part, those in found.items()}
    for one, other in (("test", "train"), ("test", "val"), ("val", "train")):
        for name, cells in ground.get(one, []):
            for beside, others in ground.get(other, []):
                shared = len(np.intersect1d(cells, others))
                if shared > SHARED * min(len(cells), len(others)):
                    raise InputError(
                        f"split: {name} of {one} and {beside} of {other} share {shared} m2 of ground; expected none"
                    )


def _ground(cloud: LabelledCloud) -> NDArray[np.int64]:
    cells = np.floor_divide(cloud.columns.points[:, :2], GROUND)
    return np.unique(cells[:, 0] * (1 << 32) + cells[:, 1])
