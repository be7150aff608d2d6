"""A map to look pictures up in: the keypoints of a mosaic of COGs, kept on disk under a key of content and parameters.

The mosaic is read in cells, so memory depends on the cell and not on the mosaic; a cell keeps the keypoints whose
middle lies in it and sees a margin around, so that the index does not depend on the cut. A search walks the descriptors
piece by piece from a memory map.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.cube.footprint import POLAR
from geoml.cube.keypoints import CONTRAST, MOST, Keypoints, detect, nearest
from geoml.cube.preview import Stretch, stretch, stretched
from geoml.cube.resize import opencv
from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.matching.hough import Hypothesis, hypotheses
from geoml.geolocation.matching.prior import Prior
from geoml.grid import sphere
from geoml.grid.ellipsoid import pixel_metres
from geoml.grid.homography import Matrix, apply, corners, middle, scale_at
from geoml.grid.plane import Window
from geoml.grid.region import utm_crs
from geoml.io.cog.read import header, read
from geoml.io.cog.source import using
from geoml.io.stac.bands import BandSpec
from geoml.io.stores.hrefs import gdal_path, redact
from geoml.io.stores.store import atomic, read_small, sha256, write_json
from geoml.redacted import bare

MARGIN = 48
"""Pixels around a cell that its keypoints may see."""
PATCH = 768
"""Pixels of the longer side of what is cut out around a hypothesis."""
CUTOUT = 1.5
"""Sides of the cut-out for each side of the picture: a wrong scale or place still holds most of it."""
NEIGHBOURS = 4
QUERY_KEYPOINTS = 1000
"""Keypoints of a picture that take part in the search, the strongest."""
ROUND = 1.01
"""For the ellipsoid, and for sides of cells that bend outwards."""
OVERVIEW = 1024
"""Pixels of the overview that the contrast is measured on."""
SPAN = 6.0
"""Degrees of longitude up to which one UTM zone will do."""
ZONES = 500.0
"""Km from the middle of files of several CRSs within which the first one's will do."""
WIDEST = 4000.0
"""Km from the middle of files within which one plane will do: it stretches by 5 % there."""
VERSION = 3


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Keypoints of a piece of a reference. ``base`` (3, 3) takes its pixels to the reference's pixels, ``plane``
    (3, 3) those to x, y of the reference's CRS; ``sigma`` is the standard deviation of the reference itself, metres."""

    keypoints: Keypoints
    base: Matrix
    plane: Matrix
    name: str
    sigma: float = 0.0


class KeypointReference(Protocol):
    """What a picture is matched against. ``fixed``: its patches do not follow the hypothesis."""

    crs: str
    fixed: bool
    key: str

    def search(
        self, picture: Keypoints, shape: tuple[int, int], most: int, prior: Prior | None = None
    ) -> list[Hypothesis]:
        """The ``most`` best hypotheses for the keypoints of a picture of ``shape`` (rows, columns)."""
        ...

    def patch_at(self, hypothesis: Hypothesis, shape: tuple[int, int]) -> Patch:
        """What the reference shows where the hypothesis puts the picture."""
        ...


class MapReference:
    """The index of a mosaic; made by :func:`index`. ``geobox`` is its grid at full resolution, ``key`` its name."""

    fixed = False

    def __init__(self, mosaic: ReferenceMosaic, folder: Path) -> None:
        self.mosaic, self.geobox, self.crs, self.key = mosaic, mosaic.geobox, str(mosaic.geobox.crs), folder.name
        self.cells, count = _cells(folder / "index.json")
        self.points = _mapped(folder / "points.bin", np.float32, (count, 4))
        self.descriptors = _mapped(folder / "descriptors.bin", np.uint8, (count, 128))

    def search(
        self, picture: Keypoints, shape: tuple[int, int], most: int, prior: Prior | None = None
    ) -> list[Hypothesis]:
        """See :class:`KeypointReference`. With a prior only the cells that it reaches are searched."""
        gallery = Keypoints(self.points, self.descriptors)
        return vote(picture, gallery, self._within(prior), None, NEIGHBOURS, shape, most)

    def patch_at(self, hypothesis: Hypothesis, shape: tuple[int, int]) -> Patch:
        """See :class:`KeypointReference`: read at the picture's own pixel size, never finer than the mosaic."""
        outline = apply(hypothesis.matrix, corners(shape))
        centre = apply(hypothesis.matrix, middle(shape))[0]
        half = CUTOUT * np.abs(outline - centre).max(0)
        scale = max(1.0, scale_at(hypothesis.matrix, middle(shape)[0]), 2 * float(half.max()) / PATCH)
        low, high = np.floor(centre - half).astype(int), np.ceil(centre + half).astype(int)
        rows, columns = self.geobox.shape
        window = Window(int(low[1]), int(low[0]), int(high[1]), int(high[0])).intersect(Window(0, 0, rows, columns))
        base = np.array([[scale, 0, window.x0], [0, scale, window.y0], [0, 0, 1]], float)
        if window.empty:
            return Patch(Keypoints.none(), base, _matrix(self.geobox.affine), self.key)
        image, valid = self.mosaic.picture(window, scale)
        return Patch(detect(image, valid), base, _matrix(self.geobox.affine), self.key)

    @cached_property
    def _circles(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """lon, lat in degrees and the radius in metres of circles that hold the cells; NaN outside of the world."""
        y0, x0, y1, x1 = self.cells[:, 1:].T
        places = np.stack([((x0 + x1) / 2, (y0 + y1) / 2), (x0, y0), (x1, y0), (x1, y1), (x0, y1)]).swapaxes(1, 2)
        x, y = apply(_matrix(self.geobox.affine), places.reshape(-1, 2)).T
        lon, lat = pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True).transform(x, y)
        lon, lat = (np.where(np.isfinite(v), v, np.nan).reshape(5, -1) for v in (lon, lat))
        far = sphere.distance(lon[:1], lat[:1], lon[1:], lat[1:]).max(0)
        return lon[0], lat[0], 1000 * ROUND * far

    def _within(self, prior: Prior | None) -> NDArray[np.int64] | None:
        if prior is None:
            return None
        start, (lon, lat, reach) = self.cells[:, 0], self._circles
        finite = np.isfinite(reach)
        reached = ~finite
        reached[finite] = prior.reaches(lon[finite], lat[finite], reach[finite])
        stop = np.append(start[1:], len(self.points))
        parts = [np.arange(a, b) for a, b, ok in zip(start, stop, reached, strict=True) if ok]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True)
class ReferenceMosaic:
    """Files on the grid of the first one, extended to hold all; where they overlap the first counts. ``windows`` hold
    the files on it."""

    files: tuple[tuple[BandSpec, ...], ...]
    windows: tuple[Window, ...]
    geobox: GeoBox
    contrast: Stretch

    def picture(self, window: Window, scale: float) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(H, W) or (H, W, 3) uint8 and (H, W) valid of a window of base pixels, ``scale`` of them to a pixel."""
        height, width = (max(1, round(n / scale)) for n in window.shape)
        affine = self.geobox.affine @ Affine.translation(window.x0, window.y0) @ Affine.scale(scale)
        files = [f for f, w in zip(self.files, self.windows, strict=True) if w.touches(window)] or self.files[:1]
        data, valid = _read(files, GeoBox((height, width), affine, self.geobox.crs), scale)
        return stretched(np.moveaxis(data, 0, -1), valid, self.contrast), valid


def index(
    hrefs: Sequence[str | Path | BandSpec],
    cache: Path,
    *,
    scales: Sequence[float] = (1.0,),
    cell: int = 256,
    most: int = 400,
    remote: bool = False,
) -> MapReference:
    """The index of the mosaic of ``hrefs``, made below ``cache`` unless it is there.

    ``scales`` are pixel sizes to look at, in pixels of the mosaic; ``cell`` pixels of a side are read at once and keep
    ``most`` keypoints; the first three bands are shown, or the first. ``remote`` says
    that the hrefs come from a catalog elsewhere (`geoml.io.stores.hrefs`); files of items are given as one of their
    bands, which says that and more. Files in degrees are seen in UTM, wider ones and those of distant zones in an
    equal-area plane about them. The key holds the SHA-256 of local files, of remote ones their href, grid and overview.

    Raises InputError, DataError and TransientError as `geoml.io.cog.read.read`, DataError for a damaged index, a CRS
    without a place on Earth and files that lie too far apart for one plane, NothingFound if no keypoint is.
    """
    if not hrefs or cell < 64 or most < 1 or not scales or not all(1 <= s < math.inf for s in scales):
        raise InputError("hrefs, cell, most, scales: expected files, 64 pixels or more, 1 or more, 1.0 or more")
    mosaic, content = _mosaic([h if isinstance(h, BandSpec) else str(h) for h in hrefs], remote)
    # the last was a choice of bands once: without it every cache would be made again
    parameters = [VERSION, opencv().__version__, CONTRAST, MARGIN, list(scales), cell, most, None]
    key = hashlib.sha256(json.dumps([content, parameters]).encode()).hexdigest()[:24]
    folder = Path(cache) / key
    if not (folder / "index.json").is_file():
        _make(mosaic, folder, scales, cell, most)
    reference = MapReference(mosaic, folder)
    if not len(reference.points):
        raise NothingFound(f"{_name(hrefs[0])}: the reference has no keypoints; nothing can be matched to it")
    return reference


def vote(
    picture: Keypoints,
    gallery: Keypoints,
    rows: NDArray[np.int64] | None,
    owner: NDArray[np.int64] | None,
    count: int,
    shape: tuple[int, int],
    most: int,
) -> list[Hypothesis]:
    """The ``most`` best hypotheses from the ``count`` keypoints of a gallery (all, or its ``rows``) that are nearest to
    each one of a picture of ``shape`` (rows, columns); ``owner`` numbers the reference picture of each.

    A match counts the more, the nearer it is than the next one, which stands for what chance gives.
    """
    query = picture.take(slice(QUERY_KEYPOINTS))
    searched = gallery.descriptors if rows is None else gallery.descriptors[rows]
    if len(searched) <= count or not len(query):
        return []
    near, distance = nearest(query.descriptors, searched, count + 1)
    place = (near if rows is None else rows[near])[:, :-1].ravel()
    weight = 1 - distance[:, :-1] / np.maximum(distance[:, -1:], 1e-9)
    keep = (weight > 0.02).ravel()
    source, target = np.repeat(query.points, count, axis=0)[keep], gallery.points[place][keep]
    group = np.zeros(len(target), np.int64) if owner is None else owner[place][keep]
    return hypotheses(source, target, weight.ravel()[keep], group, shape, most)


def metres(geobox: GeoBox) -> float:
    """Metres of a pixel at the middle of a grid, the shorter way."""
    return min(pixel_metres(geobox.affine, (int(geobox.shape[0]), int(geobox.shape[1])), str(geobox.crs)))


def _make(mosaic: ReferenceMosaic, folder: Path, scales: Sequence[float], cell: int, most: int) -> None:
    cells, count = [], 0
    with (
        atomic(folder / "points.bin") as points,
        atomic(folder / "descriptors.bin") as descriptors,
        points.open("wb") as first,
        descriptors.open("wb") as second,
    ):
        for window, keypoints in _walk(mosaic, scales, cell, most):
            cells.append([count, window.y0, window.x0, window.y1, window.x1])
            count += len(keypoints)
            first.write(np.ascontiguousarray(keypoints.points).tobytes())
            second.write(np.ascontiguousarray(keypoints.descriptors).tobytes())
    write_json(folder / "index.json", {"cells": cells, "count": count})


def _walk(mosaic: ReferenceMosaic, scales: Sequence[float], cell: int, most: int) -> Iterator[tuple[Window, Keypoints]]:
    """Cells in base pixels with their keypoints, also in base pixels."""
    height, width = mosaic.geobox.shape
    for scale in scales:
        step = round(cell * scale)
        edge = round(MARGIN * scale)
        for y in range(0, height, step):
            row = [w for w in mosaic.windows if w.y0 < y + step and y < w.y1]
            for x in range(0, width, step):
                core = Window(y, x, min(y + step, height), min(x + step, width))
                if not any(w.touches(core) for w in row):
                    continue
                wide = core.expand(edge).intersect(Window(0, 0, height, width))
                image, valid = mosaic.picture(wide, scale)
                keypoints = detect(image, valid, most=MOST * 4)
                points = keypoints.points.copy()
                points[:, :3] *= scale
                points[:, :2] += (wide.x0, wide.y0)
                inside = ((points[:, :2] >= (core.x0, core.y0)) & (points[:, :2] < (core.x1, core.y1))).all(1)
                yield core, Keypoints(points[inside][:most], keypoints.descriptors[inside][:most])


def _mosaic(hrefs: list[str | BandSpec], remote: bool) -> tuple[ReferenceMosaic, list[Any]]:
    files: list[tuple[BandSpec, ...]] = []
    boxes: list[GeoBox] = []
    for href in hrefs:
        named = "" if isinstance(href, BandSpec) else Path(bare(href)).stem
        first = href if isinstance(href, BandSpec) else BandSpec(named, "reference", href, "1", remote=remote)
        count = using(first, lambda dataset: int(dataset.count))
        files.append(tuple(replace(first, name=str(k), index=k) for k in ((1, 2, 3) if count >= 3 else (1,))))
        boxes.append(_upright(header(files[-1][0]).geobox))
    boxes = _square(boxes)
    if len({len(f) for f in files}) != 1:
        raise DataError(f"{_name(hrefs[0])}: files of one and of three bands in a mosaic; expected as many in all")
    geobox, windows = _union(boxes)
    factor = max(1.0, max(geobox.shape) / OVERVIEW)
    small = GeoBox(
        (max(1, int(geobox.shape[0] / factor)), max(1, int(geobox.shape[1] / factor))),
        geobox.affine @ Affine.scale(factor),
        geobox.crs,
    )
    data, valid = _read(tuple(files), small, factor)
    if not valid.any():
        raise NothingFound(f"{_name(hrefs[0])}: the reference has no valid pixel")
    limits = stretch(data, valid, ["grey"] * len(data))
    looks = hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()
    local = [_content(f[0]) for f in files]
    return ReferenceMosaic(tuple(files), windows, geobox, limits), [
        local,
        looks,
        tuple(geobox.affine)[:6],
        list(geobox.shape),
    ]


def _read(
    files: Sequence[Sequence[BandSpec]], geobox: GeoBox, scale: float
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """(band, y, x) and (y, x) valid: True where all bands are."""
    data, valid = read(files[0], geobox, resampling="average" if scale > 1 else "bilinear")
    filled: NDArray[np.bool_] = np.asarray(valid.all(0))
    for more in files[1:]:
        if filled.all():
            break
        other, ok = read(more, geobox, resampling="average" if scale > 1 else "bilinear")
        fresh = ok.all(0) & ~filled
        data = np.where(fresh, other, data)
        filled |= fresh
    return data, filled


def _name(source: str | Path | BandSpec) -> str:
    return redact(source.href if isinstance(source, BandSpec) else str(source))


def _content(spec: BandSpec) -> str:
    """The SHA-256 of a local file, the href of one elsewhere."""
    path = gdal_path(spec.href, remote=spec.remote, root=Path(spec.root) if spec.root else None)
    return spec.href if "://" in path else sha256(Path(path))


def _square(boxes: list[GeoBox]) -> list[GeoBox]:
    """Grids whose pixels are square on the ground and fit on one plane: in degrees they are not, and SIFT fails."""
    degrees = [bool(b.crs is not None and b.crs.geographic) for b in boxes]
    corner = np.array([_corners(b) for b in boxes])
    if all(degrees):
        width, low, high = np.ptp(corner[..., 0]), corner[..., 1].min(), corner[..., 1].max()
        if width <= SPAN and max(abs(low), abs(high)) <= POLAR:
            return [_metric(b) for b in boxes]
    elif len({str(b.crs) for b in boxes}) == 1:
        return boxes
    lon, lat = sphere.mean(*corner.reshape(-1, 2).T)
    far = float(np.max(sphere.distance(lon, lat, *corner.reshape(-1, 2).T)))
    if all(degrees) and far > WIDEST:
        return boxes  # the world: no plane shows it
    if not far <= WIDEST:
        raise DataError(f"reference: files up to {far:.0f} km from their middle; one plane shows {WIDEST:.0f} at most")
    if not any(degrees) and far <= ZONES:
        return boxes
    plane = f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m"
    return [_moved(b, plane, _meridian(b) if wide else metres(b)) for b, wide in zip(boxes, degrees, strict=True)]


def _corners(box: GeoBox) -> NDArray[np.float64]:
    """(4, 2) lon, lat of the corners of a grid."""
    height, width = box.shape
    x, y = apply(_matrix(box.affine), corners((height, width))).T
    return np.column_stack(pyproj.Transformer.from_crs(str(box.crs), "EPSG:4326", always_xy=True).transform(x, y))


def _meridian(box: GeoBox) -> float:
    """Metres of a pixel's height."""
    return float(abs(box.affine.e) * math.pi / 180 * sphere.EARTH_RADIUS_KM * 1000)


def _metric(box: GeoBox) -> GeoBox:
    """A small grid in degrees as one in UTM."""
    bounds = box.boundingbox
    lon, lat = (bounds.left + bounds.right) / 2, (bounds.bottom + bounds.top) / 2
    return _moved(box, utm_crs(float(sphere.wrap(lon)), lat), metres(box))


def _upright(box: GeoBox) -> GeoBox:
    """The grid itself, or for one that is turned or mirrored the north-up one of the same pixel size around it."""
    a = box.affine
    return _moved(box, str(box.crs), math.sqrt(abs(a.determinant))) if a.b or a.d or a.a < 0 else box


def _moved(box: GeoBox, crs: str, res: float) -> GeoBox:
    """The grid of ``res`` metres in another CRS that holds this one."""
    left, bottom, right, top = _bounds(box, crs)
    shape = (max(1, math.ceil((top - bottom) / res)), max(1, math.ceil((right - left) / res)))
    return GeoBox(shape, Affine(res, 0, left, 0, -res, top), crs)


def _bounds(box: GeoBox, crs: str) -> tuple[float, float, float, float]:
    """left, bottom, right, top of a grid in a CRS."""
    if str(box.crs) == crs:
        left, bottom, right, top = box.boundingbox.bbox
        return left, bottom, right, top
    return pyproj.Transformer.from_crs(str(box.crs), crs, always_xy=True).transform_bounds(*box.boundingbox.bbox)


def _union(boxes: Sequence[GeoBox]) -> tuple[GeoBox, tuple[Window, ...]]:
    """The first grid, extended by whole pixels to hold the others, and what each of them covers of it."""
    base = boxes[0]
    places = [(np.zeros(2), np.array([base.shape[1], base.shape[0]], float))]
    for box in boxes[1:]:
        x, y = np.array(_bounds(box, str(base.crs))).reshape(2, 2).T
        place = apply(
            np.asarray(np.linalg.inv(_matrix(base.affine)), float), np.array([[x[0], y[0]], [x[1], y[1]]], float)
        )
        if not np.isfinite(place).all():
            raise DataError(f"reference: a file in {box.crs} has no place in {base.crs}, that of the first one")
        places.append((np.floor(place.min(0)), np.ceil(place.max(0))))
    low, high = (
        pick(np.array(side), axis=0) for pick, side in zip((np.min, np.max), zip(*places, strict=True), strict=True)
    )
    windows = tuple(Window(*(int(v) for v in (*(a - low)[::-1], *(b - low)[::-1]))) for a, b in places)
    shape = (int(high[1] - low[1]), int(high[0] - low[0]))
    return GeoBox(shape, base.affine @ Affine.translation(*low), base.crs), windows


def _matrix(affine: Affine) -> Matrix:
    return np.array(tuple(affine), float).reshape(3, 3)


def _cells(path: Path) -> tuple[NDArray[np.int64], int]:
    """(K, 5) first keypoint and window in base pixels of each cell, and the number of keypoints."""
    try:
        header = json.loads(read_small(path) or b"")
        cells, count = np.array(header["cells"], np.int64).reshape(-1, 5), int(header["count"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
        raise _damaged(path, err) from err
    starts = cells[:, 0]
    if count < 0 or (np.diff(starts, append=count) < 0).any() or (starts[:1] != 0).any():
        raise _damaged(path, f"cells do not add up to {count} keypoints")
    return cells, count


def _mapped(path: Path, dtype: type[np.generic], shape: tuple[int, int]) -> NDArray[Any]:
    if not shape[0]:
        return np.zeros(shape, dtype)
    try:
        size, expected = path.stat().st_size, math.prod(shape) * np.dtype(dtype).itemsize
        if size != expected:
            raise _damaged(path, f"{size} bytes, expected {expected}")
        return np.memmap(path, dtype, "r", shape=shape)
    except (OSError, ValueError) as err:
        raise _damaged(path, err) from err


def _damaged(path: Path, reason: object) -> DataError:
    return DataError(f"{path}: a damaged index ({reason}); delete its folder")
