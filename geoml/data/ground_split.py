"""A split of few labels by squares of ground: every class is trained, validated and scored on separate ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.region import polygonal, polygons_of
from geoml.texts import counted, listed

Indexes = NDArray[np.int64]

SIDES = (256, 128, 64, 32, 16, 8)
"""Sides of squares in pixels, from the largest; the first that gives every class enough of each split is used."""
SHARES = {"test": 0.25, "val": 0.2, "train": 0.4}
"""Share of the ground of each class that a split is to have."""
HELD = ("val", "test")
ENOUGH = 0.4
"""Of these shares at least, for the class that has least."""
TRIES = 100
"""Orders of the squares that are tried for each side."""
LEAST = 3
"""Squares of a class: one to learn from, one to choose by, one to score on."""
AT_ONCE = 1024
"""Squares of a label that are cut at once; larger ones are halved first, so that empty ground costs nothing."""
MOST = 250_000
"""Pieces that are held."""


@dataclass(frozen=True)
class GroundSplit:
    """Labels cut along squares of ``side`` metres: ``frame`` has ``label``, ``square`` and ``split``."""

    frame: gpd.GeoDataFrame
    side: float


def split_ground(
    labels: gpd.GeoDataFrame,
    classes: Sequence[str],
    gsd: float,
    side: float | None = None,
    seed: int = 0,
    *,
    anchor: float = 0.0,
) -> GroundSplit:
    """Cut labels (polygons with an index ``label``, in a CRS in metres) into train, val and test by squares of ground.

    A square belongs to one split whole; with ``anchor``, that of the plane, its edges are those of pixels. ``side`` in
    metres is tried alone where it is given. Raises InputError with the
    counts of each class where no side leaves a class in three squares, one in each split, and where the labels fall
    into too many squares.
    """
    sides = [side] if side is not None else [gsd * n for n in SIDES]
    shift = anchor * gsd
    labels = labels.set_geometry(labels.geometry.translate(-shift, shift))
    best: tuple[float, GroundSplit] | None = None
    for metres in sides:
        if too_few(labels, classes, gsd, metres):
            continue
        try:
            pieces = cut(labels, metres, gsd)
        except InputError:
            if best is None:
                raise
            break
        areas = _areas(pieces, len(classes))
        tries = (_drawn(areas, np.random.default_rng([seed, attempt])) for attempt in range(TRIES))
        score, split = max(((_evenness(areas, t), t) for t in tries), key=lambda pair: pair[0])
        if score > 0 and (best is None or score > best[0]):
            placed = pieces.set_geometry(pieces.geometry.translate(shift, -shift))
            best = score, GroundSplit(placed.assign(split=split[pieces["square"].to_numpy()]), metres)
        if score >= ENOUGH:
            break
    if best is not None:
        return best[1]
    few = too_few(labels, classes, gsd, sides[-1])
    pieces = cut(labels[labels["label"].isin(few)] if few else labels, sides[-1], gsd)
    counts = squares_of(pieces, len(classes))
    said = [
        f"class {classes[k]}: {counted(int((labels['label'] == k).sum()), 'label')} drawn,"
        f" {counted(_pixels(pieces, k, gsd), 'pixel')}, in {counted(counts[k], 'square')} of {sides[-1]:g} m"
        for k in few or range(len(classes))
    ]
    raise InputError(
        f"labels: {len(few) or len(classes)} of {counted(len(classes), 'class', 'classes')} cannot be split; expected"
        f" each in {LEAST} squares of ground at least, to learn from, to choose by and to score on:"
        f" {listed(said, joined='; ')}. Draw more of them elsewhere, or leave them out with --few drop"
    )


def too_few(labels: gpd.GeoDataFrame, classes: Sequence[str], gsd: float, side: float | None = None) -> list[int]:
    """Classes that lie in too few squares of a side, by default the smallest. No piece is held."""
    metres = side or gsd * SIDES[-1]
    few: list[int] = []
    for k in range(len(classes)):
        found: set[tuple[int, int]] = set()
        for shape in labels.geometry.to_numpy()[labels["label"].to_numpy() == k]:
            for columns, rows, _ in _pieces(shape, metres, gsd):
                found.update(zip(columns.tolist(), rows.tolist(), strict=True))
                if len(found) >= LEAST:
                    break
            if len(found) >= LEAST:
                break
        if len(found) < LEAST:
            few.append(k)
    return few


def cut(labels: gpd.GeoDataFrame, side: float, gsd: float) -> gpd.GeoDataFrame:
    """Labels cut along squares, each piece with the number of its ``square``; what holds no pixel is left out.

    Raises InputError for more than `MOST` pieces.
    """
    label: list[int] = []
    squares, parts = [np.zeros((0, 2), np.int64)], [np.zeros(0, object)]
    for shape, k in zip(labels.geometry.to_numpy(), labels["label"].to_numpy(), strict=True):
        for columns, rows, found in _pieces(shape, side, gsd):
            label += [int(k)] * len(found)
            squares.append(np.stack([columns, rows], 1))
            parts.append(found)
            if len(label) > MOST:
                raise InputError(
                    f"ground: the labels fall into more than {MOST} squares of {side:g} m; expected larger ones, such"
                    f" as --ground {16 * side:g}, and without classes of few places by --few drop"
                )
    number = np.unique(np.concatenate(squares), axis=0, return_inverse=True)[1].ravel().astype(np.int64)
    return gpd.GeoDataFrame({"label": label, "square": number}, geometry=np.concatenate(parts), crs=labels.crs)


def _pieces(shape: shapely.Geometry, side: float, gsd: float) -> Iterator[tuple[Indexes, Indexes, NDArray[np.object_]]]:
    """Columns, rows and polygons of the squares of which a shape has half a pixel at least, some at a time."""
    left = [(shape, *np.floor(np.array(shape.bounds) / side).astype(np.int64).tolist())]
    while left:
        part, west, south, east, north = left.pop()
        wide, high = east - west + 1, north - south + 1
        if wide * high > AT_ONCE:
            x, y = (west + wide // 2, south) if wide >= high else (west, south + high // 2)
            first = (west, south, x - 1, north) if wide >= high else (west, south, east, y - 1)
            for w, s, e, n in (first, (x, y, east, north)):
                box = shapely.box(w * side, s * side, (e + 1) * side, (n + 1) * side)
                half = polygons_of(shapely.intersection(part, box))
                if not half.is_empty:
                    left.append((half, w, s, e, n))
            continue
        columns, rows = (v.ravel() for v in np.meshgrid(np.arange(west, east + 1), np.arange(south, north + 1)))
        boxes = shapely.box(columns * side, rows * side, (columns + 1) * side, (rows + 1) * side)
        found = polygonal(shapely.intersection(boxes, part))
        kept = shapely.area(found) >= gsd**2 / 2
        yield columns[kept], rows[kept], found[kept]


def squares_of(pieces: gpd.GeoDataFrame, classes: int) -> list[int]:
    """Squares that hold each class."""
    return [int(pieces.loc[pieces["label"] == k, "square"].nunique()) for k in range(classes)]


def _pixels(pieces: gpd.GeoDataFrame, k: int, gsd: float) -> int:
    return round(float(pieces[pieces["label"] == k].area.sum()) / gsd**2)


def _areas(pieces: gpd.GeoDataFrame, classes: int) -> NDArray[np.float64]:
    """(square, class) ground."""
    areas = np.zeros((int(pieces["square"].max()) + 1, classes))
    np.add.at(areas, (pieces["square"].to_numpy(), pieces["label"].to_numpy()), pieces.area.to_numpy())
    return areas


def _drawn(areas: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.str_]:
    """The split of each square; those of the rarest class are given out first."""
    split = np.full(len(areas), "", "<U5")
    for k in np.argsort((areas > 0).sum(0), kind="stable"):
        mine = np.flatnonzero(areas[:, k] > 0)
        free = random.permutation(mine[split[mine] == ""])
        for name in HELD:
            wanted = max(1, round(SHARES[name] * len(mine))) - int((split[mine] == name).sum())
            split[free[: max(wanted, 0)]] = name
            free = free[max(wanted, 0) :]
        split[free] = "train"
    return split


def _evenness(areas: NDArray[np.float64], split: NDArray[np.str_]) -> float:
    """The least share of a split and class beside what it is to have, at most 1; 0 where a class misses a split."""
    of_class = areas.sum(0)
    return min(1.0, *(float((areas[split == n].sum(0) / of_class).min()) / share for n, share in SHARES.items()))
