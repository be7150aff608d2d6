"""Source ``tiles``: web-map tiles and polygons. Tiles of one zoom are windows of one plane of EPSG:3857."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from shapely.geometry import box

from geoml.data import labels, rasters
from geoml.data.labels import VectorLabels
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.plane import Plane, Window

TILE = 256
HALF_WORLD = 20037508.342789244
"""Half the circumference on the sphere of EPSG:3857, metres: where the tile pyramid begins."""

Tile = tuple[int, int, int]
"""zoom, x, y"""


class Config(FileSource):
    """Web-map tiles (z/x/y in the file name, EPSG:3857) and polygons; what no polygon covers is background."""

    kind: Literal["tiles"]
    root: str
    images: str = Field(description="path under root with {x}, {y} and {z} in it")
    labels: VectorLabels
    background: int = Field(default=0, description="class value outside polygons")
    zoom: int = Field(ge=0, le=30, description="zoom of the tiles used; a missing one is averaged from finer tiles")
    mosaic: int = Field(default=1, ge=1, description="n x n tiles form one scene, so that crops can cross tile borders")
    file_bands: tuple[str, ...] = ("red", "green", "blue")


def plane_of(zoom: int) -> Plane:
    """The plane whose pixels are those of the tiles of a zoom."""
    return Plane("EPSG:3857", 2 * HALF_WORLD / (TILE * 2**zoom))


def window_of(zoom: int, x: int, y: int, tiles: int = 1) -> Window:
    """Pixels of ``tiles`` x ``tiles`` tiles from (x, y) on the plane of their zoom."""
    half = 2 ** (zoom - 1) if zoom else 0.5
    y0, x0 = int((y - half) * TILE), int((x - half) * TILE)
    return Window(y0, x0, y0 + tiles * TILE, x0 + tiles * TILE)


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every cell of ``mosaic`` x ``mosaic`` tiles that holds any. Raises NothingFound, InputError."""
    root = resolve(source.root)
    index = _index(root, source.images)
    wanted: set[Tile] = set()
    for zoom, x, y in index:
        if zoom >= source.zoom:
            shift = zoom - source.zoom
            wanted.add((source.zoom, x >> shift, y >> shift))
    if not wanted:
        raise NothingFound(f"{root / source.images}: no tile of zoom {source.zoom} or finer")
    background = recipe.target.label("source.background", source.background)
    frame = labels.read_polygons(source.labels, recipe.target).to_crs("EPSG:3857")
    n, plane = source.mosaic, plane_of(source.zoom)
    out = []
    for x, y in sorted({(t[1] // n, t[2] // n) for t in wanted}):
        window = window_of(source.zoom, x * n, y * n, n)
        read = partial(_read, index, (source.zoom, x * n, y * n), source, recipe, (frame, background))
        out.append(LabelledScene(f"{source.zoom}-{x * n}-{y * n}", window.shape, read, plane.geobox(window)))
    return out


def _index(root: Path, pattern: str) -> dict[Tile, Path]:
    """Tile -> file, for names that fit the pattern with {x}, {y} and {z}."""
    if any(pattern.count(f"{{{k}}}") != 1 for k in "xyz"):
        raise InputError(f"source.images: {pattern!r}; expected {{x}}, {{y}} and {{z}} in it, once each")
    regex = re.escape(pattern)
    star = pattern
    for key in "xyz":
        regex = regex.replace(re.escape(f"{{{key}}}"), rf"(?P<{key}>\d+)")
        star = star.replace(f"{{{key}}}", "*")
    out: dict[Tile, Path] = {}
    for path in sorted(root.glob(star)):
        if match := re.fullmatch(regex, path.relative_to(root).as_posix()):
            out[int(match["z"]), int(match["x"]), int(match["y"])] = path
    if not out:
        raise NothingFound(f"{root / pattern}: no such tile")
    return out


def _tile(index: dict[Tile, Path], tile: Tile, bands: list[int]) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """One tile, or the average of its four children where only finer ones exist; what no file covers is invalid."""
    if tile in index:
        data, valid = rasters.image(index[tile], bands)
        if valid.shape != (TILE, TILE):
            raise DataError(f"{index[tile]}: shape {valid.shape}; expected {TILE} x {TILE} pixels")
        return data, valid
    zoom, x, y = tile
    if zoom >= max(t[0] for t in index):
        return np.zeros((len(bands), TILE, TILE), np.uint8), np.zeros((TILE, TILE), np.bool_)
    four = {(dy, dx): _tile(index, (zoom + 1, 2 * x + dx, 2 * y + dy), bands) for dy in (0, 1) for dx in (0, 1)}
    fine, known = _joined(four, len(bands), 2)
    mean = fine.reshape(len(bands), TILE, 2, TILE, 2).mean((2, 4))
    data = np.rint(mean) if fine.dtype.kind in "iu" else mean
    every: NDArray[np.bool_] = np.asarray(known.reshape(TILE, 2, TILE, 2).all((1, 3)))
    return data.astype(fine.dtype), every


def _joined(
    tiles: Mapping[tuple[int, int], tuple[NDArray[np.number], NDArray[np.bool_]]], bands: int, side: int
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """``side`` x ``side`` tiles by their row and column as one picture, in a dtype that holds all that are there."""
    seen = [data.dtype for data, valid in tiles.values() if valid.any()]
    out = np.zeros((bands, side * TILE, side * TILE), np.result_type(*seen) if seen else np.uint8)
    known = np.zeros(out.shape[1:], np.bool_)
    for (dy, dx), (data, valid) in tiles.items():
        if valid.any():
            part = (slice(dy * TILE, (dy + 1) * TILE), slice(dx * TILE, (dx + 1) * TILE))
            out[:, *part], known[part] = data, valid
    return out, known


def _read(
    index: dict[Tile, Path],
    first: Tile,
    source: Config,
    recipe: RasterRecipe,
    drawn: tuple[gpd.GeoDataFrame, float],
) -> Sample:
    frame, background = drawn
    zoom, x, y = first
    bands = rasters.positions(recipe.bands, source.file_bands)
    window = window_of(zoom, x, y, source.mosaic)
    cells = [(dy, dx) for dy in range(source.mosaic) for dx in range(source.mosaic)]
    data, valid = _joined(
        {c: _tile(index, (zoom, x + c[1], y + c[0]), bands) for c in cells}, len(bands), source.mosaic
    )
    plane = plane_of(zoom)
    near = frame[frame.intersects(box(*plane.bounds(window)))]
    target = recipe.target.of_features(labels.features(near), plane.geobox(window), background)
    return Sample.of(data, valid, target, recipe.target)
