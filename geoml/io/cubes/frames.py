"""Frames of files: which band of which file is of which time. A module for each kind of file finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.errors import DataError
from geoml.io.crs import aligned
from geoml.io.cubes.calendars import calendar_of, ticks
from geoml.io.cubes.place import CubeGrid
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import check_axis, period
from geoml.io.cubes.values import equal
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
    """The frames of one file that count, all on one grid; there may be none."""

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


def known_by(until: int | None, tick: int, spec: CubeSpec, reference: int | None = None) -> bool:
    """Whether a frame could be known then: the end of its period, or its reference time, is not later."""
    if until is None:
        return True
    if reference is None:
        reference = period(tick, spec.time.label, spec.duration, spec.time.calendar)[1]
    return reference <= until


def no_data(numbers: NDArray[np.number], said: Mapping[str, object]) -> NDArray[np.bool_]:
    """Where numbers are missing by attributes of CF: _FillValue, missing_value, valid_min, valid_max, valid_range."""
    missing = np.zeros(numbers.shape, bool)
    for name in ("_FillValue", "missing_value"):
        for value in _floats(said.get(name)):
            missing |= equal(numbers, value)
    low, high = _floats(said.get("valid_min"))[:1], _floats(said.get("valid_max"))[:1]
    if len(pair := _floats(said.get("valid_range"))) == 2:
        low, high = pair[:1], pair[1:]
    with np.errstate(invalid="ignore"):
        for value in low:
            missing |= numbers < value
        for value in high:
            missing |= numbers > value
    return missing


def _floats(value: object) -> list[float]:
    """Numbers of an attribute, which GDAL writes as text such as {0,10}; none for one that is not of numbers."""
    parts: list[Any] = value if isinstance(value, list) else [value]
    if isinstance(value, str):
        parts = list(value.strip("{} ").split(","))
    try:
        return [float(part) for part in parts if part is not None]
    except (TypeError, ValueError):
        return []


def axis_ticks(
    values: NDArray[np.floating], units: str, calendar: str, where: str, spec: CubeSpec, until: int | None
) -> tuple[list[int], NDArray[np.int64]]:
    """Positions and ticks of the steps, known by ``until``, of the axis of time that ``where`` calls.

    Raises DataError for an axis that does not rise, or leaps.
    """
    name = calendar_of(calendar)
    if name != spec.time.calendar:
        raise DataError(f"{where}: calendar {name}; expected time.calendar {spec.time.calendar}")
    made = ticks(values, units, name)
    kept = [k for k, tick in enumerate(made.tolist()) if known_by(until, tick, spec)]
    check_axis(made[kept], where, spec.duration, name, spec.time.longest_gap)
    return kept, made[kept]


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
