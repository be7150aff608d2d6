"""What a report needs from each block: its counts, which come with its item, and small pictures from the overviews.

Blocks of a geoml that did not count yet are counted here, from every pixel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError
from geoml.grid.plane import Plane
from geoml.io.local_files import local_files
from geoml.io.report.canvas import Canvas, Floats, Slices
from geoml.io.report.counts import COUNTS, UNKNOWN, BlockCounter, observed_of
from geoml.io.report.part import ReportLayer, ReportPart
from geoml.settings import settings

Bytes = NDArray[np.uint8]

Stage = Callable[[pystac.Item], AbstractContextManager[object]]
"""Brings the files of a block into the folder of the run, and takes them away again; ``nullcontext``: all are there."""

ROWS = 512
"""Rows that are counted at a time."""
VALID = ReportLayer("valid", "observations", Resampling.nearest, UNKNOWN)
PICTURES = {"thumbnail": "image", "before": "before"}
"""Quicklooks and the layers that they paint."""


@dataclass(frozen=True)
class BlockView:
    """One block: its counts, and by layer what it paints on ``place`` of the canvas: (bands, y, x) values and where.

    ``observed`` are pixels by number of valid observations, ``counted`` what the part of the output adds up. A block
    with a ``problem`` has none of that.
    """

    id: str
    observed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    counted: Any = None
    place: Slices | None = None
    layers: Mapping[str, tuple[NDArray[np.number], NDArray[np.bool_]]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Painted:
    """Pixels by number of valid observations, and what is wrong with blocks by id."""

    observed: NDArray[np.int64]
    problems: dict[str, str]


@dataclass(frozen=True)
class BlockFiles:
    """The ``items`` of a run folder ``root``, with their files, which ``stage`` brings."""

    root: Path
    items: Sequence[pystac.Item]
    stage: Stage = nullcontext

    def outlines(self) -> list[BaseGeometry]:
        """Footprints in degrees."""
        return [shapely.geometry.shape(item.geometry) for item in self.items if item.geometry]

    def codes(self) -> set[str]:
        """The CRSs that the items say."""
        return {str(item.properties.get("proj:code")) for item in self.items}

    def used(self) -> Counter[str]:
        """How many blocks used each source."""
        return Counter(str(key) for item in self.items for key in item.properties.get("geoml:sources") or [])

    def paint(
        self, canvas: Canvas, part: ReportPart, drawn: Mapping[str, ReportLayer], stored: Mapping[str, NDArray[Any]],
        planes: Sequence[Plane] = (),
    ) -> Painted:  # fmt: skip
        """Add up the counts, and paint the layers into ``stored``, by name (band, y, x) on the canvas."""
        observed, problems = np.zeros(256, np.int64), dict[str, str]()
        for block in read_blocks(self.root, self.items, canvas, part, self.stage):
            if block.problem:
                named = block.problem.replace(f"{self.root}/", "").replace(f"{self.root.resolve()}/", "")
                problems[block.id] = named
                continue
            observed += block.observed
            part.add(block.counted)
            for key, (values, valid) in block.layers.items():
                if key in stored:
                    if key not in drawn:
                        values = np.concatenate([values, np.full_like(values[:1], 255)])
                    stored[key][:, *block.place or ()][:, valid] = values[:, valid]
        return Painted(observed, problems)


def read_blocks(
    root: Path, items: Sequence[pystac.Item], canvas: Canvas, part: ReportPart, stage: Stage = nullcontext
) -> Iterator[BlockView]:
    """Read the blocks of the run folder ``root``, in the order of the items; a damaged one says its ``problem``.

    Memory is that of a few blocks at the resolution of the canvas.
    """
    workers = min(settings().threads, 4)
    with ThreadPoolExecutor(workers, "geoml-report") as pool:
        for at in range(0, len(items), 4 * workers):
            yield from pool.map(lambda item: _read_block(root, item, canvas, part, stage), items[at : at + 4 * workers])


def _read_block(root: Path, item: pystac.Item, canvas: Canvas, part: ReportPart, stage: Stage) -> BlockView:
    try:
        with stage(item), local_files():
            return _read(root, item, canvas, part)
    except (RasterioError, OSError, ValueError, LookupError, TypeError, DataError) as err:
        return BlockView(item.id, problem=str(err))


def _read(root: Path, item: pystac.Item, canvas: Canvas, part: ReportPart) -> BlockView:
    files = {key: file_inside(root, asset) for key, asset in item.assets.items()}
    drawn = {**part.layers, "valid": VALID}
    main = next(iter(drawn.values()))
    if main.asset not in files:
        raise DataError(f"{item.id}: no asset named {main.asset}")
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(rasterio.open(files[layer.asset], driver="GTiff"))
            for name, layer in drawn.items()
            if layer.asset in files
        }
        first = next(iter(opened.values()))
        if any(d.shape != first.shape or d.transform != first.transform for d in opened.values()):
            raise DataError(f"{item.id}: the files of the block differ in grid")
        if first.crs is None:
            raise DataError(f"{item.id}: the file of its {main.what} has no CRS")
        layers = {}
        if (place := canvas.part(first.transform, first.shape, wkt := first.crs.to_wkt())) is not None:
            at = canvas.places(place, first.transform, wkt)
            shape = math.ceil(first.height / canvas.step), math.ceil(first.width / canvas.step)
            for name, source in opened.items():
                pixels = source.read([drawn[name].band], out_shape=(1, *shape), resampling=drawn[name].resampling)
                step = source.height / shape[0], source.width / shape[1]
                layers[name] = _sampled(pixels, is_known(pixels[0], drawn[name].nodata), step, at)
            for key in PICTURES.keys() & files.keys():
                pixels, step = read_picture(files[key], first.shape, shape)
                layers[PICTURES[key]] = _sampled(pixels[:3], pixels[3] > 0, step, at)
        counts = item.properties.get(COUNTS) or _counted(opened, part)
        return BlockView(item.id, observed_of(counts), counts, place, layers)


def _counted(opened: Mapping[str, rasterio.DatasetReader], part: ReportPart) -> dict[str, Any]:
    """The counts of a block whose item has none, from all its pixels."""
    first = next(iter(opened.values()))
    counter = BlockCounter(part, first.shape, first.transform, first.crs.to_wkt())
    bands = {name: layer.band for name, layer in part.layers.items()}
    for top in range(0, first.height, ROWS):
        strip = rasterio.windows.Window(0, top, first.width, min(ROWS, first.height - top))
        counter.add(top, {n: source.read(bands.get(n, 1), window=strip) for n, source in opened.items()})
    return counter.counts()


def file_inside(root: Path, asset: pystac.Asset) -> Path:
    """The file of an asset, which has to lie in the folder of the run."""
    path = Path(asset.get_absolute_href() or asset.href).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DataError(f"{asset.href}: outside the folder of the run")
    return path


def is_known(pixels: NDArray[np.number], nodata: float) -> NDArray[np.bool_]:
    """Where pixels are not nodata."""
    valid: NDArray[np.bool_] = ~np.isnan(pixels) if math.isnan(nodata) else pixels != nodata
    return valid


def _sampled(
    pixels: NDArray[np.number], valid: NDArray[np.bool_], step: tuple[float, float], place: tuple[Floats, Floats]
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """The pixel at each place, and whether it is valid; a pixel covers ``step`` (rows, columns) of the block."""
    with np.errstate(invalid="ignore"):
        col, row = np.floor(place[0] / step[1]), np.floor(place[1] / step[0])
        good = (row >= 0) & (row < valid.shape[0]) & (col >= 0) & (col < valid.shape[1])
    y, x = (np.where(good, v, 0).astype(np.intp) for v in (row, col))
    return pixels[:, y, x], good & valid[y, x]


def read_picture(path: Path, whole: tuple[int, int], shape: tuple[int, int]) -> tuple[Bytes, tuple[float, float]]:
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
