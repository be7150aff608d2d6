"""Source ``point_change``: what appeared or vanished between two dates, from points marked on each.

See `Config` for the rules. Made for trees: annotators mark the same crown a few metres apart
from year to year, so a lone point near one of the other date says nothing, and is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import Field, model_validator
from scipy.spatial import KDTree

from geoml.data import labels, rasters
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.data.sources.change_pairs import same_grid, stack
from geoml.data.target import Labels, PixelTarget, pixels
from geoml.errors import DataError, InputError


class Config(FileSource):
    """What appeared and what vanished between two dates on the same ground, derived from points of each date.

    Points of two dates are paired one to one, nearest first, up to ``match`` metres: these stayed. A point without a
    partner and without any point of the other date within ``apart`` metres is a loss (it is of the first date) or a
    gain (of the second) and labels the disc of ``radius`` around it. Every other point without a partner is not known:
    the same thing may have been marked elsewhere. All that is left is unchanged.
    """

    kind: Literal["point_change"]
    root: str
    images: str = Field(description="path under root with {id} in it")
    points: str = Field(description="path under root with {id} in it: .csv of x,y pixels or GeoJSON in the image's CRS")
    dates: tuple[str, ...] = Field(min_length=2, description="text of each date in an id, earliest first")
    stamp: str = Field(default="_{date}_", description="where the date is in an id; the rest of the id is the place")
    pairs: Literal["all", "consecutive", "longest"] = Field(
        default="all",
        description="dates that form a scene: every pair, consecutive dates of a place, or its first and last",
    )
    file_bands: tuple[str, ...]
    nodata: float | None = None
    match: float = Field(gt=0, description="metres: two points at most this far apart are the same object")
    apart: float = Field(gt=0, description="metres around a change that must have no point of the other date")
    radius: float = Field(gt=0, description="radius in metres of the disc that a change labels")
    ring: float = Field(default=0.0, ge=0, description="metres around that disc that are unknown")
    edge: float = Field(
        default=0.0, ge=0, description="metres from the image's edge in which a point without a match is unknown"
    )
    unchanged: int = Field(default=0, description="class value of what stayed")
    gain: int = Field(description="class value of what appeared")
    loss: int = Field(description="class value of what vanished; may equal gain")
    no_file: Literal["empty", "error"] = Field(
        default="error", description="treat a missing points file as empty or as an error"
    )

    @property
    def looks(self) -> int:
        return 2

    @model_validator(mode="after")
    def _distances(self) -> Self:
        if self.apart < self.match:
            raise ValueError(f"apart: {self.apart} m is less than match, {self.match} m")
        if self.stamp.count("{date}") != 1:
            raise ValueError(f"stamp: {self.stamp!r}; expected one {{date}} in it")
        return self


@dataclass(frozen=True)
class Matched:
    """Points (n,2) of two dates: pairs of one thing, what is only on one of them, and what cannot be said."""

    stayed: NDArray[np.float64]
    lost: NDArray[np.float64]
    gained: NDArray[np.float64]
    unsure: NDArray[np.float64]


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every pair of dates of a place. Raises InputError, NothingFound, DataError.

    A split list may name it by the image of any date of its place, whether that image is here or not.
    """
    _labels(source, pixels(recipe))
    root = resolve(source.root)
    before, after = source.points.split("{id}")
    images = rasters.find(root, source.images)
    places: dict[str, dict[str, str]] = {}
    for name in images:
        for date in source.dates:
            if (stamp := source.stamp.format(date=date)) in name:
                places.setdefault(name.replace(stamp, "{date}", 1), {})[date] = name
    out = []
    for place, of in places.items():
        have = [d for d in source.dates if d in of]
        for pair in _pairs(have, source.pairs):
            paths, points = [images[of[d]] for d in pair], [root / f"{before}{of[d]}{after}" for d in pair]
            if source.no_file == "error" and (absent := [p for p in points if not p.exists()]):
                raise DataError(f"{absent[0]}: missing; set source.no_file to 'empty' if that means no points")
            shape, geobox = same_grid(place, paths)
            if geobox is not None and geobox.crs is not None and geobox.crs.geographic:
                raise DataError(f"{paths[0]}: distances in metres need a projected image, found {geobox.crs}")
            members = tuple(place.replace("{date}", source.stamp.format(date=d)) for d in source.dates)
            name = place.replace("{date}", source.stamp.format(date="-".join(pair)))
            read = partial(_read, paths, points, geobox, source, recipe)
            out.append(LabelledScene(name, shape, read, geobox, members=members))
    if not out:
        raise InputError(f"source.dates: no place under {root} has two of {list(source.dates)}")
    return out


def match(first: NDArray[np.float64], second: NDArray[np.float64], match: float, apart: float) -> Matched:
    """Points (n,2) and (m,2) of two dates against each other; distances are in the unit of the points.

    Pairs are made one to one, nearest first, up to ``match``. A point left over is lost or gained when no point of the
    other date is within ``apart``, otherwise it is unsure.
    """
    if not len(first) or not len(second):
        none = np.empty((0, 2))
        return Matched(none, first, second, none)
    near = KDTree(first).sparse_distance_matrix(KDTree(second), match, output_type="ndarray")
    order = np.lexsort((near["j"], near["i"], near["v"]))
    mine, theirs = np.zeros(len(first), np.bool_), np.zeros(len(second), np.bool_)
    for i, j in zip(near["i"][order], near["j"][order], strict=True):
        if not (mine[i] or theirs[j]):
            mine[i] = theirs[j] = True
    alone = [KDTree(other).query(points)[0] > apart for points, other in ((first, second), (second, first))]
    unsure = np.concatenate([first[~mine & ~alone[0]], second[~theirs & ~alone[1]]])
    stayed = np.concatenate([first[mine], second[theirs]])
    return Matched(stayed, first[~mine & alone[0]], second[~theirs & alone[1]], unsure)


def _pairs(dates: Sequence[str], which: str) -> list[tuple[str, ...]]:
    if len(dates) < 2:
        return []
    if which == "longest":
        return [(dates[0], dates[-1])]
    return list(pairwise(dates) if which == "consecutive" else combinations(dates, 2))


def _read(
    images: Sequence[Path], points: Sequence[Path], geobox: GeoBox | None, source: Config, recipe: RasterRecipe
) -> Sample:
    data, valid = stack(images, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    pixel = recipe.gsd if geobox is None else math.sqrt(abs(geobox.affine.determinant))
    xy = [labels.read_points(p, geobox) if p.exists() else np.empty((0, 2)) for p in points]
    found = match(xy[0], xy[1], source.match / pixel, source.apart / pixel)
    kind = pixels(recipe)
    return Sample.of(data, valid, target(found, valid.shape, pixel, source, kind), kind)


def _labels(source: Config, kind: PixelTarget) -> tuple[float, float, float]:
    """Labels of what stayed, vanished and appeared. Raises InputError for an invalid value."""
    named = {"unchanged": source.unchanged, "loss": source.loss, "gain": source.gain}
    unchanged, loss, gain = (kind.label(f"source.{name}", value) for name, value in named.items())
    return unchanged, loss, gain


def target(found: Matched, shape: tuple[int, int], pixel: float, source: Config, kind: PixelTarget) -> Labels:
    """(y,x) labels; points are in pixels of ``pixel`` metres."""
    unchanged, loss, gain = _labels(source, kind)
    disc, wide = source.radius / pixel, (source.radius + source.ring) / pixel
    edge = source.edge / pixel
    out = kind.full(shape, unchanged)
    inner = [_inside(p, shape, edge) for p in (found.lost, found.gained)]
    at_edge = [p[~keep] for p, keep in zip((found.lost, found.gained), inner, strict=True)]
    out[labels.discs(np.concatenate([found.unsure, found.lost, found.gained]), shape, wide)] = kind.unknown
    out[labels.discs(found.stayed, shape, disc)] = unchanged
    for points, label, keep in zip((found.lost, found.gained), (loss, gain), inner, strict=True):
        out[labels.discs(points[keep], shape, disc)] = label
    out[labels.discs(np.concatenate(at_edge), shape, wide)] = kind.unknown
    return out


def _inside(points: NDArray[np.float64], shape: tuple[int, int], edge: float) -> NDArray[np.bool_]:
    x, y = points.T
    keep: NDArray[np.bool_] = (np.minimum(x, y) >= edge) & (x <= shape[1] - edge) & (y <= shape[0] - edge)
    return keep
