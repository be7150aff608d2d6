"""Frames of files: which band of which file is of which time. A module for each kind of file finds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.errors import DataError
from geoml.io.crs import aligned
from geoml.io.cubes.calendars import calendar_of, ticks
from geoml.io.cubes.place import CubeGrid
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import check_axis
from geoml.io.unit_names import unit


@dataclass(frozen=True)
class CubeFrame:
    """One step of one file; ``tick`` is its time as the file has it, see `geoml.io.cubes.calendars`."""

    path: Path
    band: int
    """From 1."""
    tick: int
    reference: int | None = None
    """Of a forecast: the tick from which on it was known."""

    @property
    def name(self) -> str:
        """How errors call it."""
        return f"{self.path} (band {self.band})"


@dataclass(frozen=True)
class Found:
    """The frames of one file, all on one grid."""

    frames: tuple[CubeFrame, ...]
    grid: CubeGrid


class FrameReader(Protocol):
    """Reads stored numbers."""

    def read(
        self, frame: CubeFrame, rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_], float, float]:
        """(y, x) numbers, where the file itself does not exclude them, and its scale and offset."""
        ...

    def close(self) -> None:
        """Free what is held."""
        ...


def check_unit(said: str | None, spec: CubeSpec) -> None:
    """Refuse a file that says another unit than the spec. Raises DataError."""
    tag = (said or "").strip().strip("[]")
    if (name := unit(tag)) is not None and name != spec.file_unit and name.lower() != str(spec.file_unit).lower():
        raise DataError(f"its unit is {tag!r}; expected file_unit {spec.file_unit}")


def axis_ticks(
    values: NDArray[np.floating], units: str, calendar: str, where: str, spec: CubeSpec
) -> NDArray[np.int64]:
    """Ticks of the axis of time that ``where`` calls, which rises and does not leap. Raises DataError for another."""
    name = calendar_of(calendar)
    if name != spec.time.calendar:
        raise DataError(f"{where}: calendar {name}; expected time.calendar {spec.time.calendar}")
    made = ticks(values, units, name)
    check_axis(made, where, spec.duration, name, spec.time.longest_gap)
    return made


def crs_of(dataset: rasterio.DatasetReader) -> str | None:
    """The CRS of a file: the EPSG code that GDAL finds where it puts the pixels on the same places, else WKT."""
    if not dataset.crs:
        return None
    wkt = dataset.crs.to_wkt()
    if (code := dataset.crs.to_epsg()) is None:
        return str(wkt)
    box = aligned(GeoBox(dataset.shape, dataset.transform, wkt), f"EPSG:{code}")
    return str(box.crs)


def flat_tags(dataset: rasterio.DatasetReader) -> dict[str, str]:
    """Tags of the dataset and of its first band."""
    return {**dataset.tags(), **dataset.tags(1)}
