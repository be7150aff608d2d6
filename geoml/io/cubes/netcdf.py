"""Frames of a netCDF variable, by GDAL: bands are steps, or steps and values of further dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from geoml.errors import DataError, InputError
from geoml.io.cubes.files import check_kind, opened
from geoml.io.cubes.frames import CubeFrame, Found, axis_ticks, check_unit, crs_of, flat_tags
from geoml.io.cubes.place import from_position
from geoml.io.cubes.spec import CubeSpec
from geoml.texts import listed


def find_netcdf(path: Path, spec: CubeSpec, until: int | None) -> Found:
    """The frames of a file. Raises DataError that names file and field, InputError for a spec that asks wrongly."""
    check_kind(path, spec)
    with opened(path, spec) as dataset:
        tags = flat_tags(dataset)
        check_unit(tags.get("units"), spec)
        extra = [d for d in tags.get("NETCDF_DIM_EXTRA", "").strip("{}").split(",") if d]
        time = next((d for d in extra if " since " in tags.get(f"{d}#units", "")), None)
        if time is None:
            raise DataError(f"{spec.variable}: no axis of time among its dimensions {listed(extra)}")
        bands = _bands(dataset, [d for d in extra if d != time], time, spec)
        numbers = np.array([_number(dataset, band, time) for band in bands])
        calendar = tags.get(f"{time}#calendar", "standard")
        kept, made = axis_ticks(numbers, tags[f"{time}#units"], calendar, f"{path}: {time}", spec, until)
        found = from_position(spec.position, tags, dataset.transform, crs_of(dataset), dataset.shape)
    return Found(tuple(CubeFrame(path, bands[k], int(t)) for k, t in zip(kept, made, strict=True)), found)


def _number(dataset: rasterio.DatasetReader, band: int, dimension: str) -> float:
    try:
        return float(dataset.tags(band)[f"NETCDF_DIM_{dimension}"])
    except (KeyError, ValueError) as err:
        raise DataError(f"band {band}: no value of {dimension}") from err


def _bands(dataset: rasterio.DatasetReader, others: list[str], time: str, spec: CubeSpec) -> list[int]:
    """Bands with the spec's values of all dimensions but time."""
    if strange := sorted(spec.at.keys() - set(others)):
        raise InputError(f"at: {strange[0]} is not a dimension of {spec.variable}; it has {listed([time, *others])}")
    bands = list(range(1, dataset.count + 1))
    for name in others:
        values = {band: _number(dataset, band, name) for band in bands}
        known = sorted(set(values.values()))
        if name not in spec.at and len(known) > 1:
            raise InputError(f"at: {spec.variable} has {len(known)} values of {name}; expected one, of {listed(known)}")
        want = spec.at.get(name, known[0])
        bands = [band for band in bands if np.isclose(values[band], want, rtol=1e-6, atol=1e-9)]
        if not bands:
            raise InputError(f"at: {name} {want:g} does not exist; expected one of {listed(known)}")
    return bands
