"""One picture of a run in web Mercator: each of its pixels is the pixel of the run that lies under its middle.

Values are taken at full resolution and never averaged, so what stands in the picture stands in a COG, and the same
picture comes out however the run was cut into blocks. Blocks of several zones and over the antimeridian share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pystac
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, out_of_memory
from geoml.grid.plane import Block, Plane, Window
from geoml.io.cards import domain
from geoml.io.georef import apply_affine, transformer
from geoml.io.local_files import local_files
from geoml.io.report.blocks import PICTURES, VALID, BlockFiles, file_inside, is_known, read_picture
from geoml.io.report.canvas import Canvas, Floats, Slices
from geoml.io.report.counts import SIDE, UNKNOWN
from geoml.io.report.part import ReportLayer, ReportPart
from geoml.io.report.sketches import ID, BlockRows
from geoml.settings import settings

RADIUS = 6378137.0
"""Metres: the sphere of web Mercator."""
WORLD = 2 * math.pi * RADIUS / 256
"""Metres of a pixel at zoom 0; those of a picture are this over a power of `QUARTER`."""
QUARTER = 2**0.25
PIXELS = 4_000_000
"""Of a picture, at most: a phone shows it."""
NORTH = 85.0
"""Degrees of latitude, beyond which web Mercator does not go."""
LATTICE = 16
"""Pixels between places that are transformed exactly; between them they are interpolated. The lattice is that of the
picture, so that a pixel does not depend on its block."""
STRIP = 512
"""Rows of the picture that are worked on at a time."""
DOMAIN = ReportLayer("domain", "similarity to the training data", Resampling.nearest, domain.NODATA)

Index = NDArray[np.int64]


@dataclass(frozen=True)
class MercatorMosaic:
    """Layers (y, x) as stored and pictures (y, x, 4) of colours by name, all on one grid of square pixels.

    ``bounds`` are west, south, east, north in degrees of longitude, beyond 180 east of the antimeridian, and latitude;
    ``metres`` is the side of a pixel in web Mercator. ``problems`` says by id why blocks are not in it.
    """

    bounds: tuple[float, float, float, float]
    metres: float
    layers: Mapping[str, NDArray[Any]]
    pictures: Mapping[str, NDArray[np.uint8]]
    problems: Mapping[str, str] = field(default_factory=dict)

    def thinned(self) -> MercatorMosaic:
        """Every second pixel of every second row of layers and pictures, each in the middle of a pixel of the new one.

        A layer of which little is known may hold nothing then.
        """
        height, width = next(iter({**self.layers, **self.pictures}.values())).shape[:2]
        west = self.bounds[0] - math.degrees(self.metres / 2 / RADIUS)
        north, side = _northing(self.bounds[3]) + self.metres / 2, 2 * self.metres
        east = west + math.degrees(side * -(-width // 2) / RADIUS)
        return MercatorMosaic(
            (west, _latitude(north - side * -(-height // 2)), east, _latitude(north)),
            side,
            {name: layer[::2, ::2] for name, layer in self.layers.items()},
            {name: picture[::2, ::2] for name, picture in self.pictures.items()},
            self.problems,
        )


def drawn_layers(part: ReportPart) -> dict[str, ReportLayer]:
    """What the map draws, by name: the layers of an output, and those of every run."""
    return {**part.layers, DOMAIN.asset: DOMAIN, VALID.asset: VALID}


def mosaic(
    blocks: BlockFiles | BlockRows, drawn: Mapping[str, ReportLayer], planes: Sequence[Plane], gsd: float
) -> MercatorMosaic | None:
    """The picture of the ``drawn`` layers, with pixels of ``gsd`` metres or, where those are too many, larger ones.

    Of blocks without files (`BlockRows`) it is made of their sketches, with pixels of about the squares of these
    (`sketch_metres`). Layers of which nothing is known are left out; None if there is nothing, or nothing that web
    Mercator shows. Raises DataError for a damaged table of blocks.
    """
    sheet = mercator(_outlines(blocks), sketch_metres(blocks, gsd) or gsd)
    if sheet is None:
        return None
    stored: dict[str, NDArray[Any]] = {k: np.full((1, *sheet.shape), v.nodata, v.dtype) for k, v in drawn.items()}
    for name in PICTURES.values():
        stored[name] = np.zeros((4, *sheet.shape), np.uint8)
    if isinstance(blocks, BlockRows):
        problems = blocks.paint(sheet, _Uncounted(), drawn, stored, planes).problems
    else:
        problems = _paint(blocks, sheet, drawn, stored, {plane.code: plane for plane in planes})
    for name in PICTURES.values() if VALID.asset in drawn else ():  # whose pixels may be larger, and hang over the edge
        stored[name][3, stored[VALID.asset][0] == UNKNOWN] = 0
    if VALID.asset in drawn:  # where nothing was ever looked for, such as beyond all images, hangs on the blocks
        stored[VALID.asset][stored[VALID.asset] == 0] = UNKNOWN
    known = {name: is_known(stored[name][0], layer.nodata) for name, layer in drawn.items()}
    part = _filled(known.values())  # quicklooks are coarser, and how coarse depends on the block
    known |= {name: stored[name][3] > 0 for name in PICTURES.values()}
    if part is None:
        return None
    return MercatorMosaic(
        _bounds(sheet, part),
        float(sheet.box.affine.a),
        {name: stored[name][0][part] for name in drawn if known[name].any()},
        {name: np.moveaxis(stored[name], 0, -1)[part] for name in PICTURES.values() if known[name].any()},
        problems,
    )


def sketch_metres(blocks: BlockFiles | BlockRows, gsd: float) -> float | None:
    """Metres of the squares, in pixels of ``gsd``, of which a sketch knows the pixel in the middle; None: no sketch."""
    if isinstance(blocks, BlockFiles):
        return None
    sizes = [int(match[2]) for name in blocks.ids if (match := ID.fullmatch(name))]
    return gsd * max(sizes, default=SIDE) / SIDE


def _outlines(blocks: BlockFiles | BlockRows) -> list[BaseGeometry]:
    """Of what is known, in degrees: blocks in which nothing is lie where the cut has them."""
    if isinstance(blocks, BlockRows):
        return blocks.outlines()
    return BlockFiles(blocks.root, [i for i in blocks.items if i.properties.get("geoml:valid_pixels") != 0]).outlines()


def mercator(outlines: Sequence[BaseGeometry], gsd: float) -> Canvas | None:
    """A sheet in web Mercator around outlines in degrees, around the antimeridian where that is narrower."""
    points = shapely.get_coordinates(list(outlines))
    points = points[np.abs(points[:, 1]) < NORTH]
    if not len(points):
        return None
    lon, lat = points.T
    turned = np.ptp(lon) > 180 and np.ptp(np.mod(lon, 360)) < np.ptp(lon)
    crs = turned_mercator() if turned else "EPSG:3857"
    x, y = (np.asarray(v) for v in transformer("EPSG:4326", crs).transform(lon, lat))
    wide, high = float(np.ptp(x)), float(np.ptp(y))
    quarters = math.ceil(math.log(WORLD * math.cos(math.radians(float(np.abs(lat).min()))) / gsd, QUARTER))
    while (wide / _metres(quarters) + 3) * (high / _metres(quarters) + 3) > PIXELS:
        quarters -= 1
    plane = Plane(crs, _metres(quarters))
    box = plane.geobox(plane.window(float(x.min()), float(y.min()), float(x.max()), float(y.max())).expand(1))
    ground = plane.res * math.cos(math.radians(float(np.abs(lat).min())))
    return Canvas(box, crs, max(ground / gsd, 1.0))


class _Uncounted:
    """Takes the counts of blocks where only their pictures are wanted."""

    def add(self, counted: Mapping[str, Any]) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Grid:
    """Where the middles of the sheet's pixels lie in a plane: (columns, rows) at the nodes of a lattice."""

    nodes: tuple[Floats, Floats]
    first: tuple[int, int]
    """(row, column) of the sheet's first pixel from the first node: the lattice is that of all sheets."""

    @classmethod
    def of(cls, sheet: Canvas, plane: Plane) -> _Grid:
        grid = sheet.box.affine
        first = round(-grid.f / grid.a) % LATTICE, round(grid.c / grid.a) % LATTICE
        y, x = (np.arange(0, n + at + LATTICE, LATTICE) - at + 0.5 for n, at in zip(sheet.shape, first, strict=True))
        east, north = apply_affine(sheet.box.affine, *np.meshgrid(x, y))
        east, north = transformer(sheet.wkt, plane.crs).transform(east, north)
        nodes = apply_affine(~plane.transform(Window(0, 0, 1, 1)), np.asarray(east), np.asarray(north))
        return cls(nodes, first)

    def pixels(self, part: Slices) -> tuple[Index, Index]:
        """(row, column) of the plane under the middle of each pixel of a part of the sheet; far off where undefined."""
        (y, ty), (x, tx) = (_between(s, at) for s, at in zip(part, self.first, strict=True))
        found = []
        for nodes in reversed(self.nodes):
            with np.errstate(invalid="ignore"):
                rows = nodes[y] * (1 - ty)[:, None] + nodes[y + 1] * ty[:, None]
                values = rows[:, x] * (1 - tx) + rows[:, x + 1] * tx
            found.append(np.floor(np.where(np.isfinite(values), values, -(2.0**40))).astype(np.int64))
        return found[0], found[1]


def _between(part: slice, first: int) -> tuple[NDArray[np.intp], Floats]:
    """Node before each pixel and the share of the way to the next one."""
    at = np.arange(part.start, part.stop) + first
    return at // LATTICE, (at % LATTICE) / LATTICE


def _paint(
    blocks: BlockFiles, sheet: Canvas, drawn: Mapping[str, ReportLayer], stored: Mapping[str, NDArray[Any]],
    planes: Mapping[str, Plane],
) -> dict[str, str]:  # fmt: skip
    """Paint all blocks, in the order of their ids; what is wrong with some of them by id."""
    grids = {code: _Grid.of(sheet, plane) for code, plane in planes.items()}
    problems = {}

    def read(item: pystac.Item) -> list[_Piece] | str:
        match = ID.fullmatch(item.id)
        if match is None or match[1] not in planes:
            return f"{item.id} is not a block of the run"
        block = Block(planes[match[1]], *map(int, match.groups()[1:]))
        try:
            with blocks.stage(item), local_files():
                return list(_pieces(blocks, item, block, sheet, grids[match[1]], drawn))
        except (RasterioError, OSError, ValueError, LookupError, TypeError, DataError) as err:
            if out_of_memory(err):
                raise
            return str(err).replace(f"{blocks.root}/", "")

    workers = min(settings().threads, 4)
    items = sorted(blocks.items, key=lambda item: item.id)
    with ThreadPoolExecutor(workers, "geoml-map") as pool:
        for at in range(0, len(items), workers):
            for item, found in zip(items[at:], pool.map(read, items[at : at + workers]), strict=False):
                if isinstance(found, str):
                    problems[item.id] = found
                    continue
                for name, part, values, known in found:
                    np.copyto(stored[name][:, *part], values, where=known)
    return problems


_Piece = tuple[str, Slices, NDArray[Any], NDArray[np.bool_]]
"""Of a layer: a part of the sheet, (band, y, x) values there and where they are known."""


def _pieces(
    blocks: BlockFiles, item: pystac.Item, block: Block, sheet: Canvas, grid: _Grid, drawn: Mapping[str, ReportLayer]
) -> Iterator[_Piece]:
    """What a block paints on the sheet."""
    window = block.window
    place = sheet.part(block.plane.transform(window), window.shape, block.plane.crs)
    if place is None:
        return
    files = {key: file_inside(blocks.root, asset) for key, asset in item.assets.items()}
    pictures = {
        name: read_picture(files[key], window.shape, (math.ceil(block.size / sheet.step),) * 2)
        for key, name in PICTURES.items()
        if key in files
    }
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(rasterio.open(files[layer.asset], driver="GTiff"))
            for name, layer in drawn.items()
            if layer.asset in files
        }
        for top in range(place[0].start, place[0].stop, STRIP):
            part = slice(top, min(top + STRIP, place[0].stop)), place[1]
            row, col = grid.pixels(part)
            row, col = row - window.y0, col - window.x0
            inside = (row >= 0) & (row < block.size) & (col >= 0) & (col < block.size)
            if not inside.any():
                continue
            row, col = np.where(inside, row, row[inside][0]), np.where(inside, col, col[inside][0])
            first, last = int(row.min()), int(row.max()) + 1
            for name, file in opened.items():
                rows = file.read(drawn[name].band, window=RasterWindow(0, first, block.size, last - first))
                values = rows[row - first, col]
                yield name, part, values[None], inside & is_known(values, drawn[name].nodata)
            for name, (picture, step) in pictures.items():
                pixels = picture[:, (row / step[0]).astype(np.intp), (col / step[1]).astype(np.intp)]
                yield name, part, pixels, inside & (pixels[3] > 0)


def _filled(known: Any) -> Slices | None:
    """The smallest part of the sheet that holds all that is known."""
    any_known = np.logical_or.reduce(list(known))
    rows, cols = np.flatnonzero(any_known.any(axis=1)), np.flatnonzero(any_known.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def _bounds(sheet: Canvas, part: Slices) -> tuple[float, float, float, float]:
    """West, south, east, north of a part of the sheet in degrees; longitudes rise."""
    middle = 0.0 if sheet.wkt == "EPSG:3857" else 180.0
    rows, cols = part
    (x0, y0), (x1, y1) = (sheet.box.affine @ at for at in ((cols.start, rows.stop), (cols.stop, rows.start)))
    west, east = (middle + math.degrees(x / RADIUS) for x in (x0, x1))
    return west, _latitude(y0), east, _latitude(y1)


def _metres(quarters: int) -> float:
    return WORLD / QUARTER**quarters


def _latitude(northing: float) -> float:
    return math.degrees(2 * math.atan(math.exp(northing / RADIUS)) - math.pi / 2)


def _northing(latitude: float) -> float:
    return RADIUS * math.asinh(math.tan(math.radians(latitude)))


def turned_mercator() -> str:
    """Web Mercator whose middle is the antimeridian."""
    return f"+proj=merc +a={RADIUS:.0f} +b={RADIUS:.0f} +lon_0=180 +units=m +nadgrids=@null +no_defs +type=crs"
