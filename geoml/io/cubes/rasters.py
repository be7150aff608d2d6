"""One frame a file: GeoTIFF and HDF5 of weather radars and satellites, with the time in name, attribute or item."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from geoml.errors import DataError
from geoml.io.cubes.files import check_kind, opened
from geoml.io.cubes.frames import CubeFrame, Found, check_unit, crs_of, flat_tags
from geoml.io.cubes.place import from_position
from geoml.io.cubes.spec import CubeSpec


def find_rasters(path: Path, spec: CubeSpec, when: dt.datetime | None = None) -> Found:
    """The frame of a file; ``when`` is the time of its item. Raises DataError that names file and field."""
    check_kind(path, spec)
    with opened(path, spec) as dataset:
        tags = flat_tags(dataset)
        if spec.band > dataset.count:
            raise DataError(f"band {spec.band} is not there; the file has {dataset.count}")
        check_unit(dataset.units[spec.band - 1], spec)
        found = from_position(spec.position, tags, dataset.transform, crs_of(dataset), dataset.shape)
        moment = when or _moment(path, spec, tags)
    tick = round(moment.timestamp())
    return Found((CubeFrame(path, spec.band, tick),), found)


def _moment(path: Path, spec: CubeSpec, tags: dict[str, str]) -> dt.datetime:
    """The time of a frame, UTC where it says no zone."""
    text = path.name
    if spec.source == "attribute":
        if spec.time.attribute not in tags:
            raise DataError(f"attribute {spec.time.attribute} is not there; time.attribute needs it")
        text = tags[spec.time.attribute].strip()
    try:
        moment = dt.datetime.strptime(text, spec.time.pattern)
    except ValueError as err:
        raise DataError(f"{text!r} does not fit time.pattern {spec.time.pattern!r}") from err
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
