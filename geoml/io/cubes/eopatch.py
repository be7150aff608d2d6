"""Frames of a patch of eo-learn on this machine: NumPy arrays (time, y, x, band), a mask, dates and a box.

The folder is as https://eo-learn.readthedocs.io describes it: ``data/NDVI.npy``, ``mask/CLM.npy``, ``timestamps.json``,
``bbox.geojson``. Where images of neighbouring orbits or tiles fall on one step, the later one counts where it is known.
"""

from __future__ import annotations

import datetime as dt
import json
from itertools import groupby
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray

from geoml.errors import DataError, InputError
from geoml.io.cubes.files import explained
from geoml.io.cubes.frames import CubeFrame, Found, known_by
from geoml.io.cubes.place import MAX_PIXELS, from_position
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.zarr_meta import inside
from geoml.io.stores.store import read_small

LARGEST = 2**24
"""Bytes of the dates."""

Numbers = NDArray[np.number]


def find_eopatch(path: Path, spec: CubeSpec, until: int | None) -> Found:
    """The frames of a patch. Raises DataError that names folder and field, InputError for a step of months."""
    with explained(path):
        if not path.is_dir():
            raise DataError("not a patch of eo-learn, which is a folder")
        ticks = [tick for tick in _ticks(path) if known_by(until, tick, spec)]
        shape = _array(path, str(spec.variable), spec).shape
        if spec.mask is not None and _array(path, spec.mask, spec).shape[:3] != shape[:3]:
            raise DataError(f"{spec.mask}: another shape than {spec.variable}, which has {shape[:3]}")
        if len(ticks) > shape[0]:
            raise DataError(f"timestamps.json: {len(ticks)} dates; {spec.variable} has {shape[0]}")
        found = from_position(spec.position, {}, *_place(path, shape[1:3]), (shape[1], shape[2]))
    last = [list(same)[-1] for _, same in groupby(range(len(ticks)), lambda k: _step(ticks[k], spec))]
    return Found(tuple(CubeFrame(path, k + 1, ticks[k]) for k in last), found)


def _step(tick: int, spec: CubeSpec) -> int:
    if not spec.duration.seconds:
        raise InputError(f"step: {spec.step}; expected one of seconds to days for dates of a patch")
    return tick // spec.duration.seconds


def _ticks(path: Path) -> list[int]:
    """Seconds since 1970 of all dates."""
    text = read_small(path / "timestamps.json", LARGEST)
    if text is None:
        raise DataError("timestamps.json does not exist")
    try:
        moments = [dt.datetime.fromisoformat(word) for word in json.loads(text)]
    except (ValueError, TypeError, RecursionError) as err:
        raise DataError(f"timestamps.json: not a list of dates ({err})") from err
    found = [round((m if m.tzinfo else m.replace(tzinfo=dt.UTC)).timestamp()) for m in moments]
    if found != sorted(set(found)):
        raise DataError("timestamps.json: dates out of order, or one twice; expected rising values")
    return found


def _place(path: Path, shape: tuple[int, ...]) -> tuple[Affine, str]:
    """Transform and CRS of the box."""
    text = read_small(path / "bbox.geojson", LARGEST)
    if text is None:
        raise DataError("bbox.geojson does not exist")
    try:
        said = json.loads(text)
        name = str(said["crs"]["properties"]["name"])
        box = shapely.geometry.shape(said)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, shapely.errors.ShapelyError) as err:
        raise DataError(f"bbox.geojson: no polygon with a crs ({type(err).__name__}: {err})") from err
    west, south, east, north = box.bounds if not box.is_empty else (0.0,) * 4
    if not 0 < box.area <= (east - west) * (north - south) * (1 + 1e-9):
        raise DataError(f"bbox.geojson: {box.geom_type} of area {box.area:g}; expected a rectangle")
    return Affine((east - west) / shape[1], 0, west, 0, (south - north) / shape[0], north), name


def _array(path: Path, feature: str, spec: CubeSpec) -> Numbers:
    """(time, y, x, band) numbers, on disk."""
    file = inside(path, f"{feature}.npy")
    if not file.is_file():
        raise DataError(f"{feature}.npy does not exist")
    found: Numbers = np.load(file, mmap_mode="r", allow_pickle=False)
    if found.ndim != 4 or found.dtype.kind not in "biuf" or not 0 < found.shape[1] * found.shape[2] <= MAX_PIXELS:
        raise DataError(f"{feature}: {found.dtype} of shape {found.shape}; expected numbers of (time, y, x, band)")
    if feature == spec.variable and found.shape[3] < spec.band:
        raise DataError(f"{feature}: {found.shape[3]} bands; band {spec.band} does not exist")
    return found


class EOPatchReader:
    """Reads windows of steps; nothing stays open."""

    def __init__(self, spec: CubeSpec) -> None:
        self._spec = spec

    def read(
        self, frame: CubeFrame, rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_], float, float]:
        """(y, x) numbers, of several dates of the step the latest known; where one is known; scale and offset."""
        spec, path = self._spec, frame.path
        with explained(path):
            data = _array(path, str(spec.variable), spec)
            mask = None if spec.mask is None else _array(path, spec.mask, spec)
            ticks = _ticks(path)
            last = frame.band - 1
            same = [k for k in range(last + 1) if _step(ticks[k], spec) == _step(ticks[last], spec)]
            numbers = np.zeros((rows.stop - rows.start, columns.stop - columns.start), data.dtype)
            valid = np.zeros(numbers.shape, bool)
            for k in same:
                known = np.isfinite(new := np.asarray(data[k, rows, columns, spec.band - 1]))
                if mask is not None:
                    known &= ~np.asarray(mask[k, rows, columns] != 0).any(-1)
                numbers, valid = np.where(known, new, numbers), valid | known
            return numbers, valid, 1.0, 0.0

    def close(self) -> None:
        """Nothing is open."""
