"""The log of a flight: when each frame of a film was taken, and where the camera was.

Any list (CSV) with a column of times: ``timestamp``, ``time``, ``datetime`` or ``utc``, as dates of ISO 8601 or as
seconds; ``frame``, ``latitude`` and ``longitude`` where it has them. The clock of a film's container is another one.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError, InputError
from geoml.io.tables import csv_rows
from geoml.texts import listed

_TIME = ("timestamp", "time", "datetime", "date_time", "utc")
LONGEST = 1e8
"""Seconds of a log: no flight lasts three years."""
_LON, _LAT = ("longitude", "lon", "lng"), ("latitude", "lat")


@dataclass(frozen=True, slots=True, eq=False)
class FrameLog:
    """``frame`` (n,) numbers in their order, None if the log has none; ``seconds`` (n,) from the first on;
    ``start`` the time of the first, None for a log in seconds; ``zoned`` whether the log says in which zone that is;
    ``lonlat`` (n, 2) degrees of the camera, NaN where the log does not say."""

    frame: NDArray[np.int64] | None
    seconds: NDArray[np.float64]
    start: dt.datetime | None
    zoned: bool
    lonlat: NDArray[np.float64]


def read_log(path: str | Path) -> FrameLog:
    """The log in ``path``. Raises InputError for a file that is not there, DataError for one without a column of times,
    an invalid time, two rows of one time, times or frames that go backwards, and a frame that is missing."""
    if not Path(path).is_file():
        raise InputError(f"log: {str(path)!r} does not exist; expected a list (CSV) with a row for each frame")
    try:
        with csv_rows.table(path) as (names, lines):
            known = {name.strip().lower(): name for name in names}
            rows = [{low: row[name] for low, name in known.items()} for row in lines]
    except csv_rows.ERRORS as err:
        raise DataError(f"{path}: not readable as a list ({err})") from err
    time = next((name for name in _TIME if name in known), None)
    if time is None:
        raise DataError(f"{path}: columns {listed(names)}; expected one of {listed(_TIME)}")
    if not rows:
        raise DataError(f"{path}: no row in it")
    seconds, start, zoned = _times(path, [row[time] for row in rows])
    frame = None
    if "frame" in known:
        frame = np.array(_column(path, rows, ("frame",)))
        if not (np.abs(frame) < 2**53).all() or (frame != np.floor(frame)).any():
            raise DataError(f"{path}: frame: expected a whole number in each row")
        frame = frame.astype(np.int64)
        steady(frame, str(path))
    lonlat = np.column_stack([_column(path, rows, _LON), _column(path, rows, _LAT)])
    return FrameLog(frame, seconds, start, zoned, lonlat)


def steady(numbers: NDArray[np.int64], where: str) -> None:
    """Raise DataError if frames do not follow each other in even steps: one is missing, or they go backwards."""
    step = np.diff(numbers)
    if len(step) and (step <= 0).any():
        at = int(np.argmax(step <= 0))
        raise DataError(f"{where}: frame {numbers[at + 1]} after frame {numbers[at]}; expected them in their order")
    if len(step) and (step != step.min()).any():
        at = int(np.argmax(step != step.min()))
        lost = numbers[at] + step.min()
        raise DataError(f"{where}: frame {lost} is missing: {numbers[at + 1]} follows {numbers[at]}")


def increasing(seconds: Sequence[float] | NDArray[np.float64], names: Sequence[object], where: str) -> None:
    """Raise DataError for two frames of one time and for a time that goes backwards; ``names`` of the frames."""
    step = np.diff(np.asarray(seconds, np.float64))
    if (bad := ~(step > 0)).any():
        at = int(np.argmax(bad))
        how = "have the same time" if step[at] == 0 else "go backwards in time"
        raise DataError(f"{where}: {names[at]} and {names[at + 1]} {how}; expected frames in the order of time")


def _times(path: str | Path, texts: Sequence[str]) -> tuple[NDArray[np.float64], dt.datetime | None, bool]:
    try:
        seconds = np.array([csv_rows.number(text) for text in texts])
        start, zoned = None, False
    except ValueError:
        try:
            found = [dt.datetime.fromisoformat(text) for text in texts]
        except ValueError as err:
            raise DataError(f"{path}: a time is none ({err}); expected ISO 8601 or seconds") from err
        if len({moment.tzinfo is None for moment in found}) > 1:
            raise DataError(f"{path}: times with and without a zone; expected one of them") from None
        zoned = found[0].tzinfo is not None
        found = [m.astimezone(dt.UTC) if zoned else m.replace(tzinfo=dt.UTC) for m in found]
        start = found[0]
        seconds = np.array([(moment - start).total_seconds() for moment in found])
    if not np.isfinite(seconds).all():
        raise DataError(f"{path}: a time is not finite")
    if np.ptp(seconds) > LONGEST:
        raise DataError(f"{path}: times over {np.ptp(seconds):g} s; expected seconds or dates of one flight")
    increasing(seconds, [f"row {k}" for k in range(1, len(seconds) + 1)], str(path))
    return seconds - seconds[0], start, zoned


def _column(path: str | Path, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[float]:
    name = next((n for n in names if n in rows[0]), None)
    try:
        return [csv_rows.number(row[name]) if name and row[name] else math.nan for row in rows]
    except ValueError as err:
        raise DataError(f"{path}: {name}: {err}") from err
