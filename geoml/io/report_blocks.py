"""What a report needs of each block: exact counts from every pixel, and small pictures from the overviews."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from geoml.errors import DataError
from geoml.io.report_canvas import Canvas
from geoml.settings import settings

Bytes = NDArray[np.uint8]

UNKNOWN = 255
"""nodata of confidence and valid count; in the valid count it means: outside the region."""
READ = ("class", "confidence", "valid")
"""Assets that are counted and drawn."""
LATTICE = 17
"""Points along a side of a block where the area of a pixel is computed."""


@dataclass
class Census:
    """Counts over all pixels at full resolution, by the uint8 value that the files store."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each class value."""
    area: NDArray[np.float64] = field(default_factory=lambda: np.zeros(256))
    """m² on the WGS 84 ellipsoid of each class value."""
    sure: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    """Pixels by class value (row) and confidence (column)."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels by number of valid observations."""

    def add(self, other: Census) -> None:
        for name in ("pixels", "area", "sure", "counts"):
            getattr(self, name).__iadd__(getattr(other, name))


@dataclass(frozen=True)
class Layer:
    """One file of a block, as small as the canvas allows: (bands, y, x) pixels, what is known, and where they lie."""

    pixels: Bytes
    known: NDArray[np.bool_]
    grid: GeoBox
    resampling: str


@dataclass(frozen=True)
class Look:
    """One block: its counts and its layers by name; without counts, the ``problem`` says why."""

    id: str
    census: Census | None
    layers: Mapping[str, Layer]
    problem: str = ""


def look_at(root: Path, items: Sequence[pystac.Item], canvas: Canvas, nodata: int) -> Iterator[Look]:
    """Read the blocks of the run folder ``root``, in the order of the items; a damaged one says its ``problem``.

    Memory is that of a few blocks at the resolution of the canvas.
    """
    workers = min(settings().threads, 4)
    with ThreadPoolExecutor(workers, "geoml-report") as pool:
        for at in range(0, len(items), 4 * workers):
            yield from pool.map(lambda item: _look(root, item, canvas, nodata), items[at : at + 4 * workers])


def _look(root: Path, item: pystac.Item, canvas: Canvas, nodata: int) -> Look:
    try:
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"):
            return _read(root, item, canvas, nodata)
    except (RasterioError, OSError, ValueError, DataError) as err:
        return Look(item.id, None, {}, str(err))


def _read(root: Path, item: pystac.Item, canvas: Canvas, nodata: int) -> Look:
    files = {key: _inside(root, asset) for key, asset in item.assets.items()}
    if "class" not in files:
        raise DataError(f"{item.id}: no asset named class")
    with ExitStack() as stack:
        opened = {key: stack.enter_context(rasterio.open(files[key], driver="GTiff")) for key in READ if key in files}
        first = opened["class"]
        if any(d.shape != first.shape or d.transform != first.transform for d in opened.values()):
            raise DataError(f"{item.id}: the files of the block differ in grid")
        y0, x0, y1, x1 = canvas.window(tuple(first.bounds), first.crs)
        shape = max(1, min(first.height, y1 - y0)), max(1, min(first.width, x1 - x0))
        layers = {key: _small(source, shape, nodata if key == "class" else UNKNOWN) for key, source in opened.items()}
        if "thumbnail" in files:
            layers["image"] = _picture(files["thumbnail"], first)
        return Look(item.id, _census(opened), layers)


def _inside(root: Path, asset: pystac.Asset) -> Path:
    """The file of an asset, which has to lie in the folder of the run."""
    path = Path(asset.get_absolute_href() or asset.href).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DataError(f"{asset.href}: outside the folder of the run")
    return path


def _small(source: rasterio.DatasetReader, shape: tuple[int, int], nodata: int) -> Layer:
    """A whole file, read from the overview that is fine enough; classes and counts are never averaged."""
    how = Resampling.average if nodata == UNKNOWN and source.scales[0] != 1.0 else Resampling.nearest
    pixels = source.read([1], out_shape=(1, *shape), resampling=how)
    transform = source.transform @ Affine.scale(source.width / shape[1], source.height / shape[0])
    return Layer(pixels, pixels != nodata, GeoBox(shape, transform, source.crs.to_wkt()), "nearest")


def _picture(path: Path, whole: rasterio.DatasetReader) -> Layer:
    """RGB of the quicklook, which covers the whole block; known where it is not transparent."""
    with Image.open(path, formats=["PNG"]) as opened:
        pixels = np.ascontiguousarray(np.moveaxis(np.asarray(opened.convert("RGBA")), -1, 0))
    shape = pixels.shape[1], pixels.shape[2]
    # a pixel stands for a whole number of pixels of the block, and the last one may hang over its edge
    steps = [-(-n // m) for n, m in zip(whole.shape, shape, strict=True)]
    fits = all(-(-n // k) == m for n, k, m in zip(whole.shape, steps, shape, strict=True))
    sy, sx = steps if fits else [n / m for n, m in zip(whole.shape, shape, strict=True)]
    grid = GeoBox(shape, whole.transform @ Affine.scale(sx, sy), whole.crs.to_wkt())
    return Layer(pixels[:3], np.repeat(pixels[3:] > 0, 3, axis=0), grid, "bilinear")


def _census(opened: Mapping[str, rasterio.DatasetReader]) -> Census:
    """Counts of a block, tile by tile."""
    found = Census()
    first = opened["class"]
    at_rows, at_cols, lattice = _pixel_areas(first)
    for _, window in first.block_windows(1):
        rows, cols = window.toslices()
        classes = first.read(1, window=window)
        area = _weights(rows, at_rows) @ lattice @ _weights(cols, at_cols).T
        found.pixels += np.bincount(classes.ravel(), minlength=256)
        found.area += np.bincount(classes.ravel(), area.ravel(), minlength=256)
        if "confidence" in opened:
            both = classes.astype(np.int64) * 256 + opened["confidence"].read(1, window=window)
            found.sure += np.bincount(both.ravel(), minlength=65536).reshape(256, 256)
        if "valid" in opened:
            found.counts += np.bincount(opened["valid"].read(1, window=window).ravel(), minlength=256)
    return found


def _pixel_areas(grid: rasterio.DatasetReader) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, columns and the area in m² of the pixel there, from its corners in an equal-area projection."""
    rows, cols = (np.linspace(0.5, n - 0.5, min(n, LATTICE)) for n in grid.shape)
    wkt = grid.crs.to_wkt()
    middle = grid.transform @ (grid.width / 2, grid.height / 2)
    lon, lat = pyproj.Transformer.from_crs(wkt, "EPSG:4326", always_xy=True).transform(*middle)
    equal = pyproj.CRS.from_dict({"proj": "laea", "lat_0": lat, "lon_0": lon, "datum": "WGS84", "units": "m"})
    to = pyproj.Transformer.from_crs(wkt, equal, always_xy=True)
    y, x = np.meshgrid(rows, cols, indexing="ij")
    corners = [to.transform(*_at(grid.transform, x + dx, y + dy)) for dy, dx in _CORNERS]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    area: NDArray[np.float64] = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2  # from the diagonals
    return rows, cols, area


def _at(grid: Affine, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
    return grid.a * x + grid.b * y + grid.c, grid.d * x + grid.e * y + grid.f


_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


def _weights(part: slice, nodes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(pixels, nodes) weights of the linear interpolation at the middles of the pixels."""
    at = np.arange(part.start, part.stop) + 0.5
    return np.stack([np.interp(at, nodes, one) for one in np.eye(len(nodes))], axis=1)
