"""Training data: the pixels of labels and a sample of the region's other pixels, with the features of each.

Pixels are read as a map of the region reads them, and only windows with labels; the encoder sees nothing else of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pystac
import shapely
import torch
from numpy.typing import NDArray

from geoml.cube.region import inside
from geoml.cube.series import Series
from geoml.data.label_file import LabelFile
from geoml.engine.contract import input_of
from geoml.engine.inference.embed import PixelEmbedder, series_of
from geoml.engine.learn.recipe import LearnRecipe
from geoml.engine.packages.encoder import EncoderPackage
from geoml.engine.pixels import Pixels
from geoml.engine.run.plan import Plan, Zone
from geoml.engine.run.sample import places
from geoml.errors import DataError, NothingFound
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window
from geoml.grid.region import project
from geoml.io.cards.map_card import Band
from geoml.io.stores.store import atomic
from geoml.nn.steps import filled
from geoml.settings import settings

log = logging.getLogger(__name__)

SIDE = 128
"""Pixels of a side of what is read at once, at most."""
SAMPLED = 8000
"""Pixels of the region beside the labels, about."""
SQUARES = 16
"""Squares of the region that these come from, at most."""
CENTRES = 1_000_000
"""Pixels of the bounds of a polygon that are looked through at most; of a larger one a random part."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Features by name (n, feature), pixel by pixel: ``place`` (n,) is the row of the label, -1 of the region's sample;
    ``pixel`` (n, 3) zone of the plan, y and x on its plane; ``lonlat`` (n, 2) degrees."""

    parts: Mapping[str, Floats]
    place: NDArray[np.int64]
    pixel: NDArray[np.int64]
    lonlat: Floats
    doubt: str = ""
    unread: int = 0
    """Places that could not be read."""

    def take(self, rows: NDArray[Any]) -> PixelFeatures:
        """Some of the pixels."""
        parts = {n: v[rows] for n, v in self.parts.items()}
        return PixelFeatures(parts, self.place[rows], self.pixel[rows], self.lonlat[rows], self.doubt, self.unread)


class FeatureReader:
    """What makes features of pixels that an input read: the bands of all steps, and the embedding of an encoder."""

    def __init__(self, plan: Plan, items: Sequence[pystac.Item], encoder: EncoderPackage | None, level: str | None):
        self.plan, self.level = plan, level
        self.embedder = None if encoder is None else PixelEmbedder(encoder)
        self.stride = 1 if self.embedder is None else self.embedder.stride
        self.bands: tuple[Band, ...] = plan.card.bands
        self._by_id = {i.id: i for i in items}
        self._reads = input_of(plan.card, plan.recipe)

    def reach(self, zone: Zone, window: Window) -> bool:
        """Whether any item may have pixels in a window of the plane of a zone."""
        return bool(self.plan.items_near(zone, window, self._by_id))

    def read(self, zone: Zone, window: Window) -> Pixels:
        """Pixels of a window of the plane of a zone. Raises as `geoml.engine.contract.Input.steps`."""
        near = self.plan.items_near(zone, window, self._by_id)
        return self._reads.together(self._reads.steps(self.plan, near, zone.plane, window))

    def series(self, pixels: Pixels, wanted: NDArray[np.bool_]) -> Series:
        """The series of the pixels that are ``wanted`` (y, x), with the whole windows that an encoder sees around."""
        found = series_of(pixels, tuple(b.name for b in self.bands), self.level)
        grown = _whole(wanted, pixels.origin, self.stride)
        return Series(found.bands, found.values, found.looks & grown, found.months, found.place, found.level)

    def of(
        self, series: Series, rows: NDArray[np.intp], cols: NDArray[np.intp], origin: tuple[int, int]
    ) -> dict[str, Floats]:
        """Features by name (n, feature) of pixels of a checked series."""
        mean = np.array([b.mean for b in self.bands], np.float32)[:, None]
        std = np.array([b.std for b in self.bands], np.float32)[:, None]
        x = (series.values[:, :, rows, cols] - mean) / std
        looks = series.looks[:, rows, cols]
        flat = np.where(looks[:, None], x, np.float32(0)).reshape(1, -1, 1, len(rows)).astype(np.float32)
        bands = filled(torch.from_numpy(flat), torch.from_numpy(looks)[None, :, None], len(looks))[0, :, 0].numpy().T
        found = {"bands": np.ascontiguousarray(bands)}
        if self.embedder is not None:
            vectors = np.zeros((len(rows), self.embedder.card.width), np.float32)
            at = np.full(series.looks.shape[1:], -1, np.int64)
            at[rows, cols] = np.arange(len(rows))
            for part, values in self.embedder.pieces(series, origin):
                here = at[part.y0 : part.y1, part.x0 : part.x1]
                vectors[here[here >= 0]] = values[:, here >= 0].T
            found["embedding"] = vectors
        return found


def labelled(features: FeatureReader, file: LabelFile, recipe: LearnRecipe, region: Sequence[float]) -> PixelFeatures:
    """The pixels of all labels. Raises NothingFound if none has data, what reading raises where nothing can be read,
    and what `PixelEmbedder.check` raises."""
    return _gathered(features, _cells(features.plan, file, recipe), region)


def sampled(
    features: FeatureReader,
    region: Sequence[float],
    seed: int,
    *,
    squares: int = SQUARES,
    pixels: int = SAMPLED // SQUARES,
) -> PixelFeatures:
    """So many pixels of each of some squares of the region with data, drawn at random by seed and square."""

    def cells() -> Iterator[Cell]:
        for zone, block in places(features.plan, SIDE):
            if features.reach(zone, block.window):
                rows, cols = np.nonzero(inside(zone.geometry, block.geobox))
                random = np.random.default_rng([seed, block.iy % 2**32, block.ix % 2**32])
                some = np.sort(random.permutation(len(rows))[:pixels])
                if len(some):
                    at = np.stack([rows[some] + block.window.y0, cols[some] + block.window.x0], 1)
                    yield zone, at, np.full(len(at), -1)

    return _gathered(features, cells(), region, squares)


Cell = tuple[Zone, NDArray[np.int64], NDArray[np.int64]]
"""A zone, pixels (n, 2) y x of its plane in one square of `SIDE`, and the label of each."""


def _gathered(
    features: FeatureReader, cells: Iterable[Cell], region: Sequence[float], enough: int | None = None
) -> PixelFeatures:
    """Features of the pixels of cells, those without data left out; of the first ``enough`` cells with any."""
    parts: list[dict[str, Floats]] = []
    place, pixel, where, doubts, lost = [], [], [], [], []
    first: DataError | None = None
    asked = 0

    def read(cell: Cell) -> tuple[Cell, Pixels | DataError]:
        zone, at, _ = cell
        s = features.stride
        low, high = at.min(0) // s * s, -(-(at.max(0) + 1) // s) * s
        try:
            return cell, features.read(zone, Window(int(low[0]), int(low[1]), int(high[0]), int(high[1])))
        except DataError as err:
            return cell, err

    with ThreadPoolExecutor(settings().threads, "geoml-learn") as pool:
        for (zone, at, label), pixels in _ahead(pool, read, cells):
            if enough is not None and len(parts) == enough:
                break
            asked += len(at)
            if isinstance(pixels, DataError):
                first = first or pixels
                lost += [int(n) for n in np.unique(label)]
                log.warning("a window of labels cannot be read: %s", pixels)
                continue
            origin = pixels.origin
            rows, cols = at[:, 0] - origin.y0, at[:, 1] - origin.x0
            known = pixels.valid[rows, cols]
            if not known.any():
                continue
            rows, cols = rows[known], cols[known]
            wanted = np.zeros(pixels.valid.shape, np.bool_)
            wanted[rows, cols] = True
            series = features.series(pixels, wanted)
            if features.embedder is not None:
                doubts.append(features.embedder.check(series, tuple(region)))  # type: ignore[arg-type]
            parts.append(features.of(series, rows, cols, (origin.y0, origin.x0)))
            place.append(label[known])
            number = np.full(len(rows), features.plan.zones.index(zone))
            pixel.append(np.stack([number, rows + origin.y0, cols + origin.x0], 1))
            where.append(lonlat(zone.plane, origin)[:, rows, cols].T)
    if not parts:
        if first is not None:
            raise first
        raise NothingFound(f"labels: no image has data in any of {asked} pixels that were examined")
    joined = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    doubt = next((d for d in doubts if d), "")
    return PixelFeatures(
        joined, np.concatenate(place), np.concatenate(pixel), np.concatenate(where), doubt, len(set(lost))
    )


def _ahead(pool: ThreadPoolExecutor, read: Any, cells: Iterable[Cell]) -> Iterator[tuple[Cell, Pixels | DataError]]:
    """``read`` of each, in order, a few ahead: memory holds some windows, however many there are."""
    waiting: list[Any] = []
    for cell in cells:
        waiting.append(pool.submit(read, cell))
        if len(waiting) > 2 * settings().threads:
            yield waiting.pop(0).result()
    for one in waiting:
        yield one.result()


def _cells(plan: Plan, file: LabelFile, recipe: LearnRecipe) -> Iterator[Cell]:
    """Squares of the planes of all zones with the pixels that are labelled in them."""
    random = np.random.default_rng(recipe.seed)
    middle = shapely.point_on_surface(file.frame.geometry.to_numpy())
    taken = np.zeros(len(middle), np.bool_)
    for zone in plan.zones:
        mine = np.flatnonzero(~taken & shapely.intersects(zone.geometry, middle))
        taken[mine] = True
        if not len(mine):
            continue
        shapes = [project(g, zone.crs) for g in file.frame.geometry.to_numpy()[mine]]
        found = [pixels_of(shape, zone.plane, recipe.pixels, random) for shape in shapes]
        at = np.concatenate(found)
        label = np.repeat(mine, [len(f) for f in found])
        square = at // SIDE
        order = np.lexsort((at[:, 1], at[:, 0], square[:, 1], square[:, 0]))
        cuts = np.flatnonzero(np.diff(square[order], axis=0).any(axis=1)) + 1
        for rows in np.split(order, cuts):
            yield zone, at[rows], label[rows]


def pixels_of(
    shape: shapely.geometry.base.BaseGeometry, plane: Plane, most: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """(n, 2) y, x of pixels of a plane whose centre lies in a polygon, ``most`` of them drawn; of a point, and of a
    polygon between the centres, the pixel that it lies in."""
    ((x, y),) = shapely.get_coordinates(shapely.point_on_surface(shape))
    pixel = plane.pixel(x, y)
    own = np.array([[pixel.y0, pixel.x0]])
    if shape.area == 0:
        return own
    w = plane.window(*shape.bounds)
    height, width = w.shape
    total = height * width
    chosen = random.integers(0, total, CENTRES) if total > CENTRES else np.arange(total)
    rows, cols = chosen // width + w.y0, chosen % width + w.x0
    shapely.prepare(shape)
    hit = shapely.contains_xy(shape, (cols + plane.anchor + 0.5) * plane.res, -(rows + plane.anchor + 0.5) * plane.res)
    found = np.unique(np.stack([rows[hit], cols[hit]], 1), axis=0)
    if not len(found):
        return own
    return found[np.sort(random.permutation(len(found))[:most])]


def _whole(wanted: NDArray[np.bool_], origin: Window, stride: int) -> NDArray[np.bool_]:
    """All pixels of the windows of ``stride`` in which one is wanted; the origin and the shape are multiples of it."""
    if stride == 1:
        return wanted
    blocks = wanted.reshape(wanted.shape[0] // stride, stride, wanted.shape[1] // stride, stride).any(axis=(1, 3))
    return np.repeat(np.repeat(blocks, stride, 0), stride, 1)


def save(path: Path, found: PixelFeatures) -> None:
    """Keep features, so that they are computed once."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        parts = {f"part:{n}": v for n, v in found.parts.items()}
        about: dict[str, Any] = {"place": found.place, "pixel": found.pixel, "lonlat": found.lonlat}
        np.savez(file, **about, doubt=found.doubt, unread=found.unread, **parts)  # type: ignore[arg-type]


def load(path: Path) -> PixelFeatures | None:
    """What `save` kept; None if there is nothing, or nothing whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            parts = {n.removeprefix("part:"): kept[n] for n in kept.files if n.startswith("part:")}
            at = (kept["place"], kept["pixel"], kept["lonlat"])
            return PixelFeatures(parts, *at, str(kept["doubt"]), int(kept["unread"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
