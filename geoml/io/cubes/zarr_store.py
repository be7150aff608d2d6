"""Frames of an array of a Zarr store on this machine. A chunk that is not there is missing data, whatever its fill."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoml.errors import DataError, InputError, MissingExtra
from geoml.io.cubes.files import explained
from geoml.io.cubes.frames import CubeFrame, Found, axis_ticks, check_unit, no_data
from geoml.io.cubes.place import MAX_PIXELS, from_position
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import places
from geoml.io.cubes.values import equal
from geoml.io.cubes.zarr_meta import ArrayMeta, check_names, inside, read_meta
from geoml.texts import listed

REGULAR = 0.02
"""Pixels that a coordinate may lie off its place; single precision rounds."""


def find_zarr(path: Path, spec: CubeSpec, until: int | None) -> Found:
    """The frames of the spec's variable. Raises DataError that names store and field, MissingExtra without zarr."""
    with explained(path):
        if not path.is_dir():
            raise DataError("not a Zarr store, which is a folder")
        check_names(path)
        meta = read_meta(path, str(spec.variable))
        if len(meta.shape) < 3 or meta.shape[-1] * meta.shape[-2] > MAX_PIXELS:
            raise DataError(
                f"{meta.name}: declares a shape of {meta.shape}; expected steps, rows, columns of at most 2^31"
            )
        check_unit(str(meta.attributes.get("units", "")), spec)
        coordinates = {name: read_meta(path, _beside(meta.name, name)) for name in meta.dims}
        for name, size in zip(meta.dims, meta.shape, strict=True):
            if coordinates[name].shape != (size,):
                raise DataError(f"{name}: {coordinates[name].shape} values; {meta.name} has {size} along it")
        leading = meta.dims[:-2]
        time = next((n for n in leading if " since " in str(coordinates[n].attributes.get("units", ""))), None)
        if time is None:
            raise DataError(f"{meta.name}: no axis of time among its dimensions {listed(leading)}")
        about = coordinates[time].attributes
        calendar, where = str(about.get("calendar", "standard")), f"{path}: {time}"
        numbers = _values(path, coordinates[time], zero=True)
        kept, made = axis_ticks(numbers, str(about["units"]), calendar, where, spec, until)
        _check_zero(path, coordinates[time], places(made, spec.duration, spec.time.calendar))
        _others(path, meta, coordinates, time, spec)  # refuses what is not there
        y, x = (_values(path, coordinates[name]) for name in meta.dims[-2:])
        transform = _transform(y, x, meta.dims[-2:])
        tags = {k: str(v) for k, v in meta.attributes.items()}
        found = from_position(spec.position, tags, transform, _crs(path, meta), (meta.shape[-2], meta.shape[-1]))
    return Found(tuple(CubeFrame(path, k + 1, int(t)) for k, t in zip(kept, made, strict=True)), found)


def _beside(variable: str, name: str) -> str:
    group, _, _ = variable.rpartition("/")
    return f"{group}/{name}" if group else name


def _open(path: Path, meta: ArrayMeta) -> Any:
    try:
        import zarr
    except ImportError as err:
        raise MissingExtra("Zarr: zarr is not installed; pip install 'geoml[cube]'") from err
    store = zarr.storage.LocalStore(path, read_only=True)
    with _readable(meta):
        return zarr.open_array(store, path=meta.name, mode="r", zarr_format=2 if meta.version == 2 else 3)


@contextmanager
def _readable(meta: ArrayMeta) -> Iterator[None]:
    """Errors of zarr and its codecs, which are of many kinds, as one of ours."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as err:
        raise DataError(f"{meta.name}: not readable ({type(err).__name__}: {err})") from err


def _values(path: Path, meta: ArrayMeta, *, zero: bool = False) -> NDArray[np.float64]:
    """All of a coordinate; with ``zero`` the first may be missing where it is 0, as writers leave out such chunks.

    Raises DataError if a part of it is missing.
    """
    there = _there(path, meta, (slice(0, meta.shape[0]),))
    if not there[int(zero and meta.fill in (0, None)) :].all():
        raise DataError(f"{meta.name}: {int((~there).sum())} of {there.size} values are missing (no chunk)")
    array = _open(path, meta)
    with _readable(meta):
        return np.asarray(array[:], np.float64)


def _check_zero(path: Path, meta: ArrayMeta, at: list[float]) -> None:
    """Refuse a first time whose chunk is missing, unless it lies one step before the second, as 0 would by chance only.

    Raises DataError.
    """
    first = _there(path, meta, (slice(0, 1),))[0]
    if not first and len(at) > 1 and abs(at[1] - at[0] - 1) > 1e-6:
        raise DataError(f"{meta.name}: the first of {len(at)} values is missing (no chunk)")


def _there(path: Path, meta: ArrayMeta, part: tuple[slice, ...]) -> NDArray[np.bool_]:
    """Where the chunks of a part of an array are files of the store."""
    found = np.zeros([s.stop - s.start for s in part], bool)
    ranges = [range(s.start // c, -(-s.stop // c)) for s, c in zip(part, meta.chunks, strict=True)]
    for chunk in itertools.product(*ranges):
        if inside(path, f"{meta.name}/{meta.key(chunk)}").is_file():
            within = zip(chunk, meta.chunks, part, strict=True)
            found[tuple(slice(max(k * c - s.start, 0), (k + 1) * c - s.start) for k, c, s in within)] = True
    return found


def _others(
    path: Path, meta: ArrayMeta, coordinates: dict[str, ArrayMeta], time: str, spec: CubeSpec
) -> dict[str, int]:
    """The place in each further dimension that the spec asks for. Raises InputError if it does not say which."""
    names = [name for name in meta.dims[:-2] if name != time]
    if strange := sorted(spec.at.keys() - set(names)):
        raise InputError(f"at: {strange[0]} is not a dimension of {meta.name}; it has {listed(meta.dims)}")
    chosen = {}
    for name in names:
        values = _values(path, coordinates[name])
        if name not in spec.at and len(values) > 1:
            raise InputError(f"at: {meta.name} has {len(values)} values of {name}; expected one, of {listed(values)}")
        same = np.isclose(values, spec.at.get(name, values[0]), rtol=1e-6, atol=1e-9)
        if same.sum() != 1:
            raise InputError(
                f"at: {name} {spec.at[name]:g} is there {same.sum()} times; expected once, of {listed(values)}"
            )
        chosen[name] = int(np.argmax(same))
    return chosen


def _transform(y: NDArray[np.float64], x: NDArray[np.float64], names: tuple[str, ...]) -> Affine:
    """From coordinates of the middles of pixels. Raises DataError for those that are not evenly spaced."""
    pixels = []
    for name, values in zip(names, (y, x), strict=True):
        size = len(values)
        pixel = (values[-1] - values[0]) / (size - 1) if size > 1 else np.nan
        if not np.isfinite(pixel) or pixel == 0:
            raise DataError(f"{name}: {size} values from {values[0]:g} to {values[-1]:g}; expected evenly spaced ones")
        odd = np.abs(values - (values[0] + np.arange(size) * pixel)) > REGULAR * abs(pixel)
        if count := int(odd.sum()):
            raise DataError(f"{name}: {count} of {size} values are not evenly spaced; a second tile's coordinates?")
        pixels.append(float(pixel))
    dy, dx = pixels
    return Affine(dx, 0, float(x[0]) - dx / 2, 0, dy, float(y[0]) - dy / 2)


def _crs(path: Path, meta: ArrayMeta) -> str | None:
    """What the array that grid_mapping names says."""
    name = str(meta.attributes.get("grid_mapping", ""))
    if not name:
        return None
    about = read_meta(path, _beside(meta.name, name)).attributes
    text = about.get("crs_wkt") or about.get("spatial_ref")
    return str(text) if text else None


class ZarrReader:
    """Reads windows of steps; the array that was read last stays open."""

    def __init__(self, spec: CubeSpec) -> None:
        self._spec = spec
        self._path: Path | None = None
        self._array: Any = None
        self._meta: ArrayMeta | None = None
        self._at: dict[str, int] = {}

    def read(
        self, frame: CubeFrame, rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_], float, float]:
        """(y, x) numbers, where there is a chunk and no fill value, scale and offset."""
        with explained(frame.path):
            meta = self._opened(frame.path)
            step = frame.band - 1
            at = [self._at.get(n, step) for n in meta.dims[:-2]]
            part = (*(slice(k, k + 1) for k in at), rows, columns)
            shape = rows.stop - rows.start, columns.stop - columns.start
            valid = _there(frame.path, meta, part).reshape(shape)
            with _readable(meta):
                numbers = np.asarray(self._array[part]).reshape(shape)
            valid &= ~no_data(numbers, meta.attributes)
            if meta.version == 2 and meta.fill:  # a fill of 0 is not one of missing data, since 0 is dry
                valid &= ~equal(numbers, meta.fill)
            return numbers, valid, self._said(meta, "scale_factor", 1.0), self._said(meta, "add_offset", 0.0)

    def close(self) -> None:
        """Nothing stays open but the metadata."""
        self._path = self._array = self._meta = None

    def _said(self, meta: ArrayMeta, name: str, default: float) -> float:
        value = meta.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise DataError(f"{meta.name}: {name} {value!r}; expected a number")
        return float(value)

    def _opened(self, path: Path) -> ArrayMeta:
        if self._meta is None or self._path != path:
            meta = read_meta(path, str(self._spec.variable))
            coordinates = {name: read_meta(path, _beside(meta.name, name)) for name in meta.dims[:-2]}
            time = next(n for n, c in coordinates.items() if " since " in str(c.attributes.get("units", "")))
            self._at = _others(path, meta, coordinates, time, self._spec)
            self._array, self._path, self._meta = _open(path, meta), path, meta
        return self._meta
