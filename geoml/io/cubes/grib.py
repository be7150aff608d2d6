"""Messages of a GRIB file, by GDAL: in any order, of several elements and levels, analyses or forecasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from geoml.errors import DataError
from geoml.io.cubes.calendars import iso
from geoml.io.cubes.files import check_kind, opened
from geoml.io.cubes.frames import CubeFrame, Found, check_unit, crs_of, known_by
from geoml.io.cubes.place import from_position
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import moved
from geoml.texts import listed

MAX_MESSAGE = 2**28
"""Pixels: 2 GiB as GDAL decodes them."""

PERIODS = range(8, 16)
"""Product definition templates of sums, means and extremes over a period (GRIB2, code table 4.0)."""


def find_grib(path: Path, spec: CubeSpec, until: int | None) -> Found:
    """The messages of the spec's element and level. Raises DataError that names file and field."""
    check_kind(path, spec)
    messages, there, later = [], Counter[str](), 0
    with opened(path, spec) as dataset:
        if (pixels := dataset.width * dataset.height) > MAX_MESSAGE:
            raise DataError(f"declares {pixels} pixels a message, decoded whole; at most {MAX_MESSAGE} are read")
        for band in range(1, dataset.count + 1):
            tags = dataset.tags(band)
            period = int(tags.get("GRIB_PDS_PDTN", "0")) in PERIODS
            element, level = tags.get("GRIB_ELEMENT", ""), tags.get("GRIB_SHORT_NAME", "")
            there[f"{element} {level}"] += 1
            # APCP06 is APCP of six hours
            if spec.variable in (element, element.rstrip("0123456789") if period else "") and spec.level in (
                None,
                level,
            ):
                check_unit(tags.get("GRIB_UNIT"), spec)
                message = _message(path, band, tags, period)
                known = message.frame.reference if spec.time.forecast else None
                counts = known_by(until, message.frame.tick, spec, known)
                messages += [(message, level)] if counts else []
                later += not counts
        if not messages and not later:
            wanted = f"{spec.variable} {spec.level or ''}".strip()
            raise DataError(f"no message of {wanted}; it has {listed(f'{n} x {name}' for name, n in there.items())}")
        if len(levels := sorted({level for _, level in messages})) > 1:
            raise DataError(f"{spec.variable} has {len(levels)} levels; expected level in the YAML: {listed(levels)}")
        frames = _wanted([message for message, _ in messages], spec) if messages else []
        found = from_position(spec.position, {}, dataset.transform, crs_of(dataset), dataset.shape)
    return Found(tuple(frames), found)


@dataclass(frozen=True)
class _Message:
    frame: CubeFrame
    begun: int | None
    """The first tick of the period it is of; None for an instant, and where GRIB1 does not say it."""


def _message(path: Path, band: int, tags: Mapping[str, str], period: bool) -> _Message:
    try:
        known, later, tick = (int(tags[f"GRIB_{k}"].split()[0]) for k in ("REF_TIME", "FORECAST_SECONDS", "VALID_TIME"))
    except (KeyError, ValueError, IndexError) as err:
        raise DataError(f"band {band}: no time that is known") from err
    begun = known + later
    if (begun > tick) if period else (begun != tick):
        raise DataError(
            f"band {band}: known {iso(known, 'standard')} and {later} s ahead, but valid {iso(tick, 'standard')}"
        )
    return _Message(CubeFrame(path, band, tick, known), begun if period else None)


def _wanted(messages: list[_Message], spec: CubeSpec) -> list[CubeFrame]:
    """Those of the period that the spec is about. Raises DataError for forecasts where analyses are expected."""
    periods = [m for m in messages if m.begun is not None]
    if periods and spec.time.label != "end":
        raise DataError(f"band {periods[0].frame.band}: of a period, whose end is its time; expected time.label end")
    step = spec.duration
    kept = [
        m.frame
        for m in messages
        if m.begun is None
        or m.begun == (m.frame.reference if spec.accumulated else moved(m.frame.tick, -2, step, "standard"))
    ]
    if not kept:
        first = periods[0]
        span = f"{iso(first.begun or 0, 'standard')} to {iso(first.frame.tick, 'standard')}"
        kind = "the reference time on" if spec.accumulated else f"one step of {spec.step}"
        raise DataError(f"{len(periods)} messages of periods such as {span}; expected those of {kind}")
    if spec.time.forecast:
        return kept
    if ahead := [frame for frame in kept if frame.reference != frame.tick]:
        raise DataError(
            f"band {ahead[0].band} and {len(ahead) - 1} more: a forecast of {iso(ahead[0].reference or 0, 'standard')};"
            " expected analyses (time.forecast takes forecasts)"
        )
    return [replace(frame, reference=None) for frame in kept]
