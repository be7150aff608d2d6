"""A cube: the frames of all its files in order of time, as physical values, north up, NaN where there is nothing."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType

import numpy as np
import pystac
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoml.errors import DataError, GeomlError, InputError, NothingFound
from geoml.io.cubes.calendars import Calendar, CalendarTime, iso, named
from geoml.io.cubes.eopatch import EOPatchReader, find_eopatch
from geoml.io.cubes.files import environment, explained, open_file, paths_of
from geoml.io.cubes.frames import CubeFrame, Found, FrameReader, no_data
from geoml.io.cubes.grib import find_grib
from geoml.io.cubes.netcdf import find_netcdf
from geoml.io.cubes.place import CubeGrid, check_range, check_same
from geoml.io.cubes.rasters import find_rasters
from geoml.io.cubes.spec import CubeSpec
from geoml.io.cubes.steps import check_spacing, moved, period
from geoml.io.cubes.values import physical
from geoml.io.cubes.zarr_store import ZarrReader, find_zarr
from geoml.io.stores.hrefs import gdal_path

Source = str | Path | pystac.Item
Times = NDArray[np.datetime64] | NDArray[np.object_]

FALLS = 0.01
"""Share of the plausible range by which a sum may fall from one step to the next: packing rounds."""


class Cube:
    """One variable at many times on one grid. Not for several threads at once; closed by ``with`` or `close`.

    Made by `open_cube`. Steps are numbered from 0 in order of time. Missing ones are not there.
    """

    def __init__(
        self, spec: CubeSpec, frames: Sequence[CubeFrame], grid: CubeGrid, reader: FrameReader, factor: int = 1
    ) -> None:
        self.spec, self._frames, self._grid, self._reader = spec, tuple(frames), grid, reader
        self.factor = factor

    @property
    def variable(self) -> str:
        """CF name of the variable, if it has one."""
        return self.spec.name

    @property
    def unit(self) -> str:
        """Of the values."""
        return str(self.spec.unit)

    @property
    def calendar(self) -> Calendar:
        """Of the times."""
        return self.spec.time.calendar

    @property
    def geobox(self) -> GeoBox:
        """The grid, row 0 in the north."""
        fine = self._grid.geobox
        height, width = (n // self.factor for n in fine.shape)
        return GeoBox((height, width), fine.affine @ Affine.scale(self.factor), fine.crs)

    @property
    def crs(self) -> str:
        """EPSG code, or WKT where there is none."""
        return str(self.geobox.crs)

    @property
    def transform(self) -> Affine:
        """From column and row to x and y; row 0 is in the north."""
        return self.geobox.affine

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.geobox.shape
        return int(height), int(width)

    @property
    def times(self) -> Times:
        """(steps,) valid times, rising: the end of the period that a step is of, which is when it can be known.

        datetime64[s] in UTC; of another calendar than that of everyday life `CalendarTime`, which are no such times.
        """
        ends = [period[1] for period in self.periods]
        if self.calendar == "standard":
            return np.array(ends, np.int64).astype("datetime64[s]")
        made = np.empty(len(ends), object)
        made[:] = [named(tick, self.calendar) for tick in ends]
        return made

    @cached_property
    def periods(self) -> tuple[tuple[int, int], ...]:
        """First and last tick of the period of each step, the same twice for instants."""
        step, label = self.spec.duration, self.spec.time.label
        return tuple(period(frame.tick, label, step, self.calendar) for frame in self._frames)

    @property
    def reference_time(self) -> np.datetime64 | None:
        """From when on the fields of a forecast were known; None for what was seen."""
        first = self._frames[0].reference
        return None if first is None else np.datetime64(first, "s")

    @property
    def files(self) -> tuple[Path, ...]:
        """The file of each step."""
        return tuple(frame.path for frame in self._frames)

    def step_of(self, time: np.datetime64 | str | CalendarTime) -> int:
        """The step that is valid at a time. Raises InputError if there is none."""
        text = str(time.astype("datetime64[s]") if isinstance(time, np.datetime64) else time).removesuffix("Z")
        for step, (_, end) in enumerate(self.periods):
            if iso(end, self.calendar) == text:
                return step
        raise InputError(
            f"time: no step of {text}; there are {len(self._frames)} from {self.times[0]} to {self.times[-1]}"
        )

    def read(self, step: int, rows: slice | None = None, columns: slice | None = None) -> NDArray[np.float32]:
        """(y, x) values of a step in `unit`, at full resolution, NaN where missing; of a window or all of it.

        Raises InputError for a step or window that is not there, DataError that names the file for one that cannot be
        read or holds values that are not plausible.
        """
        if not 0 <= step < len(self._frames):
            raise InputError(f"step: {step}; expected 0 to {len(self._frames) - 1}")
        rows = check_range(rows, self.shape[0], "rows")
        columns = check_range(columns, self.shape[1], "columns")
        if self.factor == 1:
            return self._fine(step, rows, columns)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        fine = (slice(part.start * self.factor, part.stop * self.factor) for part in (rows, columns))
        squares = self._fine(step, *fine).reshape(height, self.factor, width, self.factor)
        known = np.isfinite(squares).sum((1, 3))
        total = np.nansum(squares, (1, 3))
        half = 2 * known >= self.factor**2
        return np.where(half, total / np.maximum(known, 1), np.nan).astype(np.float32)

    def _fine(self, step: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        frame = self._frames[step]
        with _naming(frame, self.calendar):
            numbers, valid, scale, offset = self._stored(frame, rows, columns)
            if self.spec.accumulated:
                numbers, valid = self._of_one_step(step, numbers, valid, rows, columns)
            return physical(numbers, valid, self.spec, scale, offset)

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def __len__(self) -> int:
        return len(self._frames)

    def __enter__(self) -> Cube:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stored(
        self, frame: CubeFrame, rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_], float, float]:
        stored = self._grid.stored_rows(rows)
        parts = [self._reader.read(frame, stored, part) for part in self._grid.stored_columns(columns)]
        numbers, valid = (np.concatenate([part[k] for part in parts], axis=1) for k in (0, 1))
        if self._grid.flipped:
            numbers, valid = numbers[::-1], valid[::-1]
        return numbers, valid, parts[0][2], parts[0][3]

    def _of_one_step(
        self, step: int, numbers: NDArray[np.number], valid: NDArray[np.bool_], rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
        """Sums since the reference time made those of the step: less the sum of the step before, if it is there."""
        frame, length = self._frames[step], self.spec.duration
        begun = moved(frame.tick, -2, length, self.calendar)
        if begun == frame.reference:
            return numbers, valid
        before = self._frames[step - 1] if step else None
        if before is None or before.tick != begun:
            return numbers, np.zeros_like(valid)
        earlier, known, _, _ = self._stored(before, rows, columns)
        both = valid & known
        for number in self.spec.missing:
            both &= (numbers != number) & (earlier != number)
        rise = np.where(both, numbers, 0).astype(np.float64) - np.where(both, earlier, 0)
        if (fall := float(rise.min(initial=0))) < -FALLS * max(float(np.abs(numbers[both]).max(initial=0)), 1e-9):
            raise DataError(f"a sum since the reference time falls by {-fall:g}; expected one that rises")
        return np.maximum(rise, 0), both


class _naming:
    """Errors of a frame with its file and time."""

    def __init__(self, frame: CubeFrame, calendar: Calendar) -> None:
        self._frame, self._calendar = frame, calendar

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GeomlError):
            text = str(error).removeprefix(f"{self._frame.path}: ")
            raise type(error)(f"{self._frame.name}, {iso(self._frame.tick, self._calendar)}: {text}") from error


def open_cube(
    source: Source | Sequence[Source], spec: CubeSpec, factor: int = 1, until: dt.datetime | None = None
) -> Cube:
    """The cube of a file, a folder, a list of files or of STAC items, as ``spec`` says.

    With a ``factor`` above one its pixels are means of squares of so many values in the wanted unit, of which at least
    half are known; what is left over in the south and east is left out.

    Steps that could not be known by ``until`` are not there and say nothing: files that are later by their name or item
    are not opened, later times of an axis are not checked.

    Only headers are read. Files may come in any order; an axis inside of a file must rise. Raises InputError for what
    was asked wrongly, MissingExtra if a package for the kind of file is not installed, and DataError, naming file
    and field, for two frames of one time or out of step, for frames on different grids, and for broken or dishonest
    files; see docs/cubes.md. NothingFound if no step could be known.
    """
    if until is not None and spec.time.calendar != "standard":
        raise InputError(f"until: {until}; days of the calendar {spec.time.calendar} are not those of everyday life")
    parts = list(source) if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    found = _found(parts, spec, None if until is None else math.floor(until.timestamp()))
    if not found:
        raise NothingFound(f"cube: no step of {spec.name} is known by {until}")
    for other in found[1:]:
        try:
            check_same(found[0].grid, other.grid)
        except DataError as err:
            raise DataError(f"{other.frames[0].path}: {err} ({found[0].frames[0].path})") from err
    frames = sorted((f for part in found for f in part.frames), key=lambda f: (f.tick, str(f.path), f.band))
    cycles = sorted({f.reference for f in frames if f.reference is not None})
    if len(cycles) > 1:
        texts = ", ".join(iso(c, "standard") for c in cycles[:5])
        raise DataError(f"{frames[0].path}: forecasts of {len(cycles)} reference times ({texts}); expected one")
    check_spacing([f.tick for f in frames], [f.name for f in frames], spec.duration, spec.time.calendar)
    return Cube(spec, frames, found[0].grid, reader_of(spec), factor)


def reader_of(spec: CubeSpec) -> FrameReader:
    """What reads the stored numbers of frames."""
    made: dict[str, type[ZarrReader | EOPatchReader]] = {"Zarr": ZarrReader, "EOPatch": EOPatchReader}
    return made.get(spec.driver, _GdalReader)(spec)


def _found(sources: list[Source], spec: CubeSpec, until: int | None) -> list[Found]:
    """What the files hold that have a frame that counts."""
    items = [part for part in sources if isinstance(part, pystac.Item)]
    if bool(items) != (spec.source == "item") or 0 < len(items) < len(sources):
        raise InputError(
            f"cube: {len(items)} of {len(sources)} are STAC items; expected all with time.source item, or none"
        )
    if items:
        return [found for item in items if (found := _of_item(item, spec, until)) is not None]
    paths = paths_of([part for part in sources if not isinstance(part, pystac.Item)], spec)
    return [found for path in paths if (found := frames_in(path, spec, until)) is not None and found.frames]


def frames_in(path: Path, spec: CubeSpec, until: int | None) -> Found | None:
    """The frames of a file that are known by a tick. Raises DataError that names file and field."""
    finders = {"netCDF": find_netcdf, "GRIB": find_grib, "Zarr": find_zarr, "EOPatch": find_eopatch}
    return finders.get(spec.driver, find_rasters)(path, spec, until)


def _of_item(item: pystac.Item, spec: CubeSpec, until: int | None) -> Found | None:
    asset = item.assets.get(spec.variable or next(iter(item.assets), ""))
    if asset is None:
        raise DataError(f"item {item.id}: no asset {spec.variable}; it has {', '.join(item.assets) or 'none'}")
    folder = Path(item.get_self_href() or ".").resolve().parent
    path = Path(gdal_path(asset.href, remote=False, root=folder))
    if "://" in str(path) or not path.is_file():
        raise InputError(f"item {item.id}: {asset.href!r} is not a local file; expected one beside the item")
    if item.datetime is None:
        raise DataError(f"item {item.id}: no datetime; an interval alone does not say when")
    moment = item.datetime if item.datetime.tzinfo else item.datetime.replace(tzinfo=dt.UTC)
    return find_rasters(path, spec, until, moment)


class _GdalReader:
    """The dataset of the file that was read last stays open."""

    def __init__(self, spec: CubeSpec) -> None:
        self._spec, self._stack = spec, ExitStack()
        self._path: Path | None = None
        self._dataset: rasterio.DatasetReader | None = None
        self._scales: tuple[float, ...] = ()
        self._offsets: tuple[float, ...] = ()
        self._nodata: tuple[float | None, ...] = ()

    def read(
        self, frame: CubeFrame, rows: slice, columns: slice
    ) -> tuple[NDArray[np.number], NDArray[np.bool_], float, float]:
        with explained(frame.path), environment():
            dataset = self._open(frame.path)
            window = Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
            numbers = dataset.read(frame.band, window=window)
            valid = ~no_data(numbers, {"_FillValue": self._nodata[frame.band - 1], **dataset.tags(frame.band)})
            if self._spec.driver == "GeoTIFF":  # the only one of them with masks
                valid &= dataset.read_masks(frame.band, window=window) != 0
            return numbers, valid, self._scales[frame.band - 1], self._offsets[frame.band - 1]

    def close(self) -> None:
        self._stack.close()
        self._path = self._dataset = None

    def _open(self, path: Path) -> rasterio.DatasetReader:
        if self._dataset is None or self._path != path:
            self.close()
            self._dataset, self._path = self._stack.enter_context(open_file(path, self._spec)), path
            # each of them goes over all bands
            self._scales, self._offsets = self._dataset.scales, self._dataset.offsets
            self._nodata = self._dataset.nodatavals
        return self._dataset
