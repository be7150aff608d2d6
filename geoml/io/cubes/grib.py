"""Messages of a GRIB file, by GDAL: in any order, of several elements and levels, analyses or forecasts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from geoml.errors import DataError
from geoml.io.cubes.calendars import iso
from geoml.io.cubes.files import check_kind, opened
from geoml.io.cubes.frames import Found, Frame, check_unit, crs_of
from geoml.io.cubes.place import from_position
from geoml.io.cubes.spec import CubeSpec
from geoml.texts import listed


def find_grib(path: Path, spec: CubeSpec) -> Found:
    """The messages of the spec's element and level. Raises DataError that names file and field."""
    check_kind(path, spec)
    frames, there = [], Counter[str]()
    with opened(path, spec) as dataset:
        for band in range(1, dataset.count + 1):
            tags = dataset.tags(band)
            element, level = tags.get("GRIB_ELEMENT", ""), tags.get("GRIB_SHORT_NAME", "")
            there[f"{element} {level}"] += 1
            if element == spec.variable and spec.level in (None, level):
                check_unit(tags.get("GRIB_UNIT"), spec)
                frames.append(_frame(path, band, tags, spec))
        if not frames:
            wanted = f"{spec.variable} {spec.level or ''}".strip()
            raise DataError(f"no message of {wanted}; it has {listed(f'{n} x {name}' for name, n in there.items())}")
        levels = {name for name in there if name.partition(" ")[0] == spec.variable}
        if spec.level is None and len(levels) > 1:
            raise DataError(f"{spec.variable} has {len(levels)} levels; expected level in the YAML: {listed(levels)}")
        found = from_position(spec.position, {}, dataset.transform, crs_of(dataset), dataset.shape)
    return Found(tuple(frames), found)


def _frame(path: Path, band: int, tags: dict[str, str], spec: CubeSpec) -> Frame:
    try:
        known, later, tick = (int(tags[f"GRIB_{k}"].split()[0]) for k in ("REF_TIME", "FORECAST_SECONDS", "VALID_TIME"))
    except (KeyError, ValueError, IndexError) as err:
        raise DataError(f"band {band}: no time that is known") from err
    if known + later != tick:
        raise DataError(
            f"band {band}: known {iso(known, 'standard')} and {later} s ahead, but valid {iso(tick, 'standard')}"
        )
    if later and not spec.time.forecast:
        raise DataError(
            f"band {band}: a forecast of {iso(known, 'standard')}, {later} s ahead; expected analyses"
            " (time.forecast takes forecasts)"
        )
    return Frame(path, band, tick, known if spec.time.forecast else None)
