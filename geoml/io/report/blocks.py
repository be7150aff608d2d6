"""What a report needs of each block: exact counts from every pixel, and small pictures from the overviews."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError

from geoml.errors import DataError
from geoml.io.report.canvas import Canvas, Floats, Slices, at, transformer
from geoml.settings import settings

Bytes = NDArray[np.uint8]

Near = Callable[[pystac.Item], AbstractContextManager[None]]

UNKNOWN = 255
"""nodata of confidence and valid count; in the valid count it means: outside the region."""
READ = {"class": Resampling.nearest, "confidence": Resampling.average, "valid": Resampling.nearest}
"""Assets that are counted and drawn, and how they are made smaller."""
CHANGE = {"probability": "probability of change", "score": "score of change"}
"""What a map of changes has instead of the confidence, and what it is called; it is counted and drawn in its place."""
PICTURES = {"thumbnail": "image", "before": "before"}
"""Quicklooks and the layers that they paint."""
LATTICE = 17
"""Points along a side of a block where the area of a pixel is computed."""


@dataclass
class Census:
    """Counts over all pixels at full resolution, by the uint8 value that the files store."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each class value."""
    area: Floats = field(default_factory=lambda: np.zeros(256))
    """m² on the WGS 84 ellipsoid of each class value."""
    sure: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    """Pixels by class value (row) and confidence (column)."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels by number of valid observations."""

    def add(self, other: Census) -> None:
        for name in ("pixels", "area", "sure", "counts"):
            getattr(self, name).__iadd__(getattr(other, name))


@dataclass(frozen=True)
class BlockView:
    """One block: its counts, and by layer what it paints on ``part`` of the canvas: (bands, y, x) values and where.

    Without counts, the ``problem`` says why.
    """

    id: str
    census: Census | None
    part: Slices | None = None
    layers: Mapping[str, tuple[Bytes, NDArray[np.bool_]]] = field(default_factory=dict)
    problem: str = ""


def here(_item: pystac.Item) -> AbstractContextManager[None]:
    """The files of a block are where they are."""
    return nullcontext()


def look_at(
    root: Path, items: Sequence[pystac.Item], canvas: Canvas, nodata: int, near: Near = here
) -> Iterator[BlockView]:
    """Read the blocks of the run folder ``root``, in the order of the items; a damaged one says its ``problem``.

    Memory is that of a few blocks at the resolution of the canvas. ``near`` brings the files of a block and takes them
    away again.
    """
    workers = min(settings().threads, 4)
    with ThreadPoolExecutor(workers, "geoml-report") as pool:
        for at in range(0, len(items), 4 * workers):
            yield from pool.map(lambda item: _look(root, item, canvas, nodata, near), items[at : at + 4 * workers])


def _look(root: Path, item: pystac.Item, canvas: Canvas, nodata: int, near: Near) -> BlockView:
    try:
        with near(item), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO"):
            return _read(root, item, canvas, nodata)
    except (RasterioError, OSError, ValueError, DataError) as err:
        return BlockView(item.id, None, problem=str(err))


def _read(root: Path, item: pystac.Item, canvas: Canvas, nodata: int) -> BlockView:
    files = {"confidence" if key in CHANGE else key: _inside(root, asset) for key, asset in item.assets.items()}
    if "class" not in files:
        raise DataError(f"{item.id}: no asset named class")
    with ExitStack() as stack:
        opened = {key: stack.enter_context(rasterio.open(files[key], driver="GTiff")) for key in READ if key in files}
        first = opened["class"]
        if any(d.shape != first.shape or d.transform != first.transform for d in opened.values()):
            raise DataError(f"{item.id}: the files of the block differ in grid")
        if first.crs is None:
            raise DataError(f"{item.id}: the file of its classes has no CRS")
        layers = {}
        if (part := canvas.part(first.transform, first.shape, wkt := first.crs.to_wkt())) is not None:
            place = canvas.places(part, first.transform, wkt)
            shape = math.ceil(first.height / canvas.step), math.ceil(first.width / canvas.step)
            for key, source in opened.items():
                pixels = source.read([1], out_shape=(1, *shape), resampling=READ[key])
                nodata_here = nodata if key == "class" else UNKNOWN
                step = source.height / shape[0], source.width / shape[1]
                layers[key] = _sampled(pixels, pixels[0] != nodata_here, step, place)
            for key in PICTURES.keys() & files.keys():
                pixels, step = _picture(files[key], first.shape, shape)
                layers[PICTURES[key]] = _sampled(pixels[:3], pixels[3] > 0, step, place)
        return BlockView(item.id, _census(opened), part, layers)


def _inside(root: Path, asset: pystac.Asset) -> Path:
    """The file of an asset, which has to lie in the folder of the run."""
    path = Path(asset.get_absolute_href() or asset.href).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DataError(f"{asset.href}: outside the folder of the run")
    return path


def _sampled(
    pixels: Bytes, known: NDArray[np.bool_], step: tuple[float, float], place: tuple[Floats, Floats]
) -> tuple[Bytes, NDArray[np.bool_]]:
    """The pixel at each place, and whether it is known; a pixel covers ``step`` (rows, columns) of the block."""
    with np.errstate(invalid="ignore"):
        col, row = np.floor(place[0] / step[1]), np.floor(place[1] / step[0])
        good = (row >= 0) & (row < known.shape[0]) & (col >= 0) & (col < known.shape[1])
    y, x = (np.where(good, v, 0).astype(np.intp) for v in (row, col))
    return pixels[:, y, x], good & known[y, x]


def _picture(path: Path, whole: tuple[int, int], shape: tuple[int, int]) -> tuple[Bytes, tuple[float, float]]:
    """(4, y, x) RGBA of the quicklook of a block of ``whole`` pixels, no finer than needed, and the step of a pixel."""
    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGBA")
    # a pixel stands for a whole number of pixels of the block, and the last one may hang over its edge
    steps = [-(-n // m) for n, m in zip(whole, (picture.height, picture.width), strict=True)]
    covered = [k * m for k, m in zip(steps, (picture.height, picture.width), strict=True)]
    height, width = covered if all(c < n + k for c, n, k in zip(covered, whole, steps, strict=True)) else whole
    finest = max(1, min(picture.width, shape[1])), max(1, min(picture.height, shape[0]))
    if finest != picture.size:
        picture = picture.convert("RGBa").resize(finest, Image.Resampling.BOX).convert("RGBA")
    return np.moveaxis(np.asarray(picture), -1, 0), (height / finest[1], width / finest[0])


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


def _pixel_areas(grid: rasterio.DatasetReader) -> tuple[Floats, Floats, Floats]:
    """Rows, columns and the area in m² of the pixel there, from its corners in an equal-area projection."""
    rows, cols = (np.linspace(0.5, n - 0.5, min(n, LATTICE)) for n in grid.shape)
    wkt = grid.crs.to_wkt()
    middle = grid.transform @ (grid.width / 2, grid.height / 2)
    lon, lat = (10 * round(v / 10) for v in transformer(wkt, "EPSG:4326").transform(*middle))
    to = transformer(wkt, f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
    y, x = np.meshgrid(rows, cols, indexing="ij")
    corners = [to.transform(*at(grid.transform, x + dx, y + dy)) for dy, dx in _CORNERS]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    area: Floats = np.abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2  # from the diagonals
    return rows, cols, area


_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))


def _weights(part: slice, nodes: Floats) -> Floats:
    """(pixels, nodes) weights of the linear interpolation at the middles of the pixels."""
    at = np.arange(part.start, part.stop) + 0.5
    return np.stack([np.interp(at, nodes, one) for one in np.eye(len(nodes))], axis=1)
