"""One frame a file: GeoTIFF and HDF5 of weather radars and satellites, with the time in name, attribute or item."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from geoml.errors import DataError
from geoml.io.cubes.files import check_kind, opened
from geoml.io.cubes.frames import CubeFrame, Found, check_unit, crs_of, flat_tags, known_by
from geoml.io.cubes.place import from_position
from geoml.io.cubes.spec import CubeSpec


def find_rasters(path: Path, spec: CubeSpec, until: int | None, when: dt.datetime | None = None) -> Found | None:
    """The frame of a file; ``when`` is the time of its item. None for one that is not known by ``until``.

    A file whose name or item says that it is later is not opened. Raises DataError that names file and field.
    """
    if spec.source == "name":
        when = moment_of(path.name, spec)
    if when is not None and not known_by(until, round(when.timestamp()), spec):
        return None
    check_kind(path, spec)
    with opened(path, spec) as dataset:
        tags = flat_tags(dataset)
        if spec.band > dataset.count:
            raise DataError(f"band {spec.band} does not exist; the file has {dataset.count}")
        check_unit(dataset.units[spec.band - 1], spec)
        found = from_position(spec.position, tags, dataset.transform, crs_of(dataset), dataset.shape)
        if when is None:
            if spec.time.attribute not in tags:
                raise DataError(f"attribute {spec.time.attribute} does not exist; time.attribute needs it")
            when = moment_of(tags[spec.time.attribute].strip(), spec)
    tick = round(when.timestamp())
    return Found((CubeFrame(path, spec.band, tick),), found) if known_by(until, tick, spec) else None


def moment_of(text: str, spec: CubeSpec) -> dt.datetime:
    """The time that a name or an attribute says, UTC where it says no zone. Raises DataError if it says none."""
    try:
        moment = dt.datetime.strptime(text, spec.time.pattern)
    except ValueError as err:
        raise DataError(f"{text!r} does not fit time.pattern {spec.time.pattern!r}") from err
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
