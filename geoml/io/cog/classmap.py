"""The class map of a finished run, block by block: areas of its classes, pixels drawn from it, its value at a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geoml.errors import DataError, NothingFound
from geoml.io.areas import PixelAreas
from geoml.io.local_files import local_files
from geoml.io.stac.table import read_items
from geoml.io.stores.remote import run_store

ROWS = 512
"""Rows that are read at a time."""
AT_ONCE = 64
"""Rows of them whose areas are held, eight times as many bytes."""


@dataclass(frozen=True)
class ClassMap:
    """``paths`` of the class COGs of a run, which do not overlap where they hold data."""

    paths: tuple[Path, ...]

    def count(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pixels (COG, 256) by class value and their geodesic areas in m² (COG, 256); nodata counts nothing."""
        pixels = np.zeros((len(self.paths), 256), np.int64)
        areas = np.zeros((len(self.paths), 256))
        for i, path in enumerate(self.paths):
            with _opened(path) as source:
                of_pixels = PixelAreas(source.shape, source.transform, source.crs.to_wkt())
                for window, values in _strips(source):
                    for top in range(0, len(values), AT_ONCE):
                        part = values[top : top + AT_ONCE]
                        rows = slice(window.row_off + top, window.row_off + top + len(part))
                        pixels[i] += np.bincount(part.ravel(), minlength=256)
                        areas[i] += np.bincount(part.ravel(), of_pixels.of(rows).ravel(), minlength=256)
                if source.nodata is not None:
                    pixels[i, int(source.nodata)] = areas[i, int(source.nodata)] = 0
        return pixels, areas

    def places(self, value: int, ranks: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Longitudes and latitudes of pixel centres: of each COG those of class ``value`` with these ``ranks``, counted
        from 0, row by row."""
        centres: list[NDArray[np.float64]] = [np.zeros((2, 0))]
        for path, chosen in zip(self.paths, ranks, strict=True):
            if not len(chosen):
                continue
            with _opened(path) as source:
                start = 0
                for window, values in _strips(source):
                    y, x = np.nonzero(values == value)
                    inside = chosen[(chosen >= start) & (chosen < start + len(y))] - start
                    start += len(y)
                    if len(inside):
                        at = source.transform * np.stack([x[inside] + 0.5, y[inside] + window.row_off + 0.5])
                        centres.append(np.stack(_to_degrees(source).transform(*at)))
        lon, lat = np.concatenate(centres, axis=1)
        return lon, lat

    def at(self, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int16]:
        """Class value (N,) at places in degrees, -1 where the map has none."""
        out = np.full(len(lon), -1, np.int16)
        for path in self.paths:
            with _opened(path) as source:
                x, y = _to_degrees(source).transform(lon, lat, direction="INVERSE")
                column, row = (np.floor(v) for v in ~source.transform * np.stack([x, y]))
                inside = (row >= 0) & (row < source.height) & (column >= 0) & (column < source.width) & (out < 0)
                for i in np.flatnonzero(inside):
                    value = source.read(1, window=Window(int(column[i]), int(row[i]), 1, 1))[0, 0]
                    if value != source.nodata:
                        out[i] = value
        return out


def open_map(run: str | Path) -> ClassMap:
    """The class map of a run, in a folder or elsewhere, whose COGs are then copied here.

    Raises NothingFound for a run without a finished block, DataError for files that are not there or damaged.
    """
    store = run_store(run)
    store.pull("items.parquet")
    if not (store.local / "items.parquet").is_file():
        raise NothingFound(f"run: {store.url} has no items.parquet; expected the folder of a finished run")
    hrefs = [i.assets["class"].href for i in read_items(store.local / "items.parquet") if "class" in i.assets]
    names = [href.removeprefix("./") for href in hrefs]
    if not names:
        raise NothingFound(f"run: {store.url} has no class map")
    store.pull(*names)
    return ClassMap(tuple(store.local / name for name in names))


@contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    try:
        with local_files(), rasterio.open(path, driver="GTiff") as source:
            yield source
    except rasterio.errors.RasterioError as err:
        raise DataError(f"{path}: not readable ({err})") from err


def _strips(source: rasterio.DatasetReader) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
    for top in range(0, source.height, ROWS):
        window = Window(0, top, source.width, min(ROWS, source.height - top))
        yield window, source.read(1, window=window)


def _to_degrees(source: rasterio.DatasetReader) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source.crs.to_wkt(), "OGC:CRS84", always_xy=True)
