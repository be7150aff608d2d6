"""Detections of frames, and what goes with frames: MOTChallenge text or Parquet, homographies, the log of a flight.

MOTChallenge (https://arxiv.org/abs/2003.09003, section 3): ``frame, id, left, top, width, height, confidence, class…``,
boxes in pixels. Numbers that are none, boxes without an area and scores beyond 0 to 1 are errors that name the place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoml.errors import DataError, InputError
from geoml.grid.homography import Matrix
from geoml.io.stores.store import check_regular
from geoml.io.tables import csv_rows
from geoml.texts import listed
from geoml.vector.motion import SURE

UNSORTED = 5_000_000
"""Rows of a file that is not in the order of its frames that are sorted in memory, at most."""
CHUNK = 65_536
"""Rows that are read at once."""
_NAMES = {
    "frame": ("frame",),
    "id": ("id", "track_id"),
    "confidence": ("confidence", "score", "conf"),
    "class": ("class", "name", "label"),
}
_BOXES = (("x", "y", "w", "h"), ("left", "top", "width", "height"), ("xmin", "ymin", "xmax", "ymax"))


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one frame: ``boxes`` (n, 4) left, top, width, height in pixels; ``confidence`` (n,) 0..1;
    ``kind`` (n,) names of classes, empty if there is none; ``id`` (n,) of the file, -1 where it has none;
    ``reported`` (n,) bool where who found them says which of them are things, and which only may be."""

    frame: int
    boxes: NDArray[np.float64]
    confidence: NDArray[np.float64]
    kind: NDArray[np.object_]
    id: NDArray[np.int64]
    reported: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        named = f"frame {self.frame}"
        if not np.isfinite(self.boxes).all():
            raise DataError(f"{named}: a box is not finite; expected pixels")
        if (wrong := (self.boxes[:, 2:] <= 0).any(1)).any():
            raise DataError(f"{named}: a box is inverted or without an area ({self.boxes[wrong][0].tolist()})")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            bad = self.confidence[~((self.confidence >= 0) & (self.confidence <= 1))][0]
            raise DataError(f"{named}: a confidence of {bad}; expected 0 to 1")

    @property
    def centres(self) -> NDArray[np.float64]:
        """(n, 2) middles of the boxes."""
        out: NDArray[np.float64] = self.boxes[:, :2] + self.boxes[:, 2:] / 2
        return out

    @classmethod
    def none(cls, frame: int) -> Detections:
        """Nothing in a frame."""
        return cls(frame, np.zeros((0, 4)), np.zeros(0), np.zeros(0, object), np.zeros(0, np.int64))

    def take(self, which: NDArray[np.bool_]) -> Detections:
        """Those where True."""
        reported = None if self.reported is None else self.reported[which]
        columns = self.boxes[which], self.confidence[which], self.kind[which], self.id[which]
        return Detections(self.frame, *columns, reported)

    def sure(self, least: float | None) -> NDArray[np.bool_]:
        """(n,) which are things: from a confidence of ``least`` on; None: those that are reported, else from `SURE`."""
        if least is None and self.reported is not None:
            return self.reported
        return np.asarray(self.confidence >= (SURE if least is None else least))


def read_detections(path: str | Path) -> Iterator[Detections]:
    """The frames of a file that have detections, in their order, one at a time.

    Memory is that of a frame and `CHUNK` rows where the file is in the order of its frames, else of the file. Parquet
    by its suffix: ``frame``, boxes as x y w h, left top width height, or xmin ymin xmax ymax, and where there are some
    ``confidence`` (or score), ``class`` (or name) and ``id``. Anything else is MOTChallenge text, commas or blanks.
    Raises InputError for a file that is not there or has too many rows in another order, DataError for its content.
    """
    place = _there(path, "detections")
    ordered, rows = _order(place)
    if not ordered and rows > UNSORTED:
        raise InputError(
            f"detections: {place} has {rows} rows that are not in the order of frames; {UNSORTED} are sorted at most"
        )
    held = _Rows.none()
    for chunk in _chunks(place):
        held = held.plus(chunk)
        if ordered and len(held.frame):
            whole = held.frame < held.frame[-1]
            yield from _frames(held.take(whole))
            held = held.take(~whole)
    yield from _frames(held)


def read_matrices(path: str | Path) -> dict[int, Matrix]:
    """Homographies by frame: rows of frame and nine numbers, row by row of the (3, 3) matrix.

    Raises InputError for a file that is not there, DataError for an invalid row and a frame that appears twice.
    """
    place, found = _there(path, "homographies"), dict[int, Matrix]()
    for line, values in _numbers(place):
        if len(values) != 10 or not whole(values[0]):
            raise DataError(f"{place}: line {line}: {len(values)} numbers; expected a frame and the 9 of a homography")
        if int(values[0]) in found:
            raise DataError(f"{place}: line {line}: frame {int(values[0])} appears twice")
        found[int(values[0])] = np.array(values[1:]).reshape(3, 3)
    if not found:
        raise DataError(f"{place}: no homography in it")
    return found


def read_matrix(path: str | Path) -> Matrix:
    """One homography, (3, 3): nine numbers, in a row or in three. Raises InputError and DataError."""
    place = _there(path, "reference_homography")
    values = [value for _, row in _numbers(place) for value in row]
    if len(values) != 9:
        raise DataError(f"{place}: {len(values)} numbers; expected the 9 of a homography, row by row")
    return np.array(values).reshape(3, 3)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    frame: NDArray[np.int64]
    boxes: NDArray[np.float64]
    confidence: NDArray[np.float64]
    kind: NDArray[np.object_]
    id: NDArray[np.int64]

    @classmethod
    def none(cls) -> _Rows:
        nothing = np.zeros(0, np.int64)
        return cls(nothing, np.zeros((0, 4)), np.zeros(0), np.zeros(0, object), nothing)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> _Rows:
        return _Rows(*(getattr(self, name)[which] for name in self.__slots__))

    def plus(self, other: _Rows) -> _Rows:
        return _Rows(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__))


def _frames(rows: _Rows) -> Iterator[Detections]:
    order = np.argsort(rows.frame, kind="stable")
    rows = rows.take(order)
    cuts = np.flatnonzero(np.diff(rows.frame)) + 1
    for part in np.split(np.arange(len(rows.frame)), cuts) if len(rows.frame) else []:
        one = rows.take(part)
        yield Detections(int(one.frame[0]), one.boxes, one.confidence, one.kind, one.id)


def _order(place: Path) -> tuple[bool, int]:
    """Whether rows are in the order of their frames, and how many there are."""
    last, count, ordered = -np.inf, 0, True
    for chunk in _chunks(place):
        if len(chunk.frame):
            ordered = ordered and bool(chunk.frame[0] >= last and (np.diff(chunk.frame) >= 0).all())
            last, count = float(chunk.frame[-1]), count + len(chunk.frame)
    if not count:
        raise DataError(f"{place}: no detection in it")
    return ordered, count


def _chunks(place: Path) -> Iterator[_Rows]:
    return _parquet(place) if place.suffix.lower() in (".parquet", ".geoparquet") else _mot(place)


def _mot(place: Path) -> Iterator[_Rows]:
    values: list[list[float]] = []
    for line, row in _numbers(place):
        if len(row) < 6:
            raise DataError(
                f"{place}: line {line}: {len(row)} numbers; expected frame, id, left, top, width, height, …"
            )
        if not whole(row[0]):
            raise DataError(f"{place}: line {line}: frame {row[0]}; expected a whole number")
        values.append([*row[:6], row[6] if len(row) > 6 else 1.0, row[7] if len(row) > 7 else -1.0])
        if len(values) == CHUNK:
            yield _of_numbers(np.array(values))
            values = []
    if values:
        yield _of_numbers(np.array(values))


def _of_numbers(rows: NDArray[np.float64]) -> _Rows:
    kinds = np.array(["" if k < 0 else f"{k:g}" for k in rows[:, 7].tolist()], object)
    ids = _ids(rows[:, 1])
    return _Rows(rows[:, 0].astype(np.int64), rows[:, 2:6], rows[:, 6], kinds, ids)


def _numbers(place: Path) -> Iterator[tuple[int, list[float]]]:
    """(line, its numbers) of a text; blanks separate where there are no commas. Raises DataError."""
    try:
        with csv_rows.cells(place) as lines:
            for line, row in enumerate(lines, 1):
                cells = row[0].split() if len(row) == 1 else row
                yield line, [float(cell) if cell else float("nan") for cell in cells]
    except (*csv_rows.ERRORS, ValueError) as err:
        raise DataError(f"{place}: no table of numbers ({err})") from err


def _parquet(place: Path) -> Iterator[_Rows]:
    try:
        with pq.ParquetFile(place) as file:
            there = file.schema_arrow.names
            names = {key: next((n for n in known if n in there), None) for key, known in _NAMES.items()}
            box = next((b for b in _BOXES if set(b) <= set(there)), None)
            if names["frame"] is None or box is None:
                raise DataError(
                    f"{place}: columns {listed(there)}; expected frame and one of {listed(map(' '.join, _BOXES))}"
                )
            for batch in file.iter_batches(CHUNK, columns=[*filter(None, names.values()), *box]):
                yield _of_table(pa.Table.from_batches([batch]), names, box)
    except (OSError, ValueError, pa.ArrowException) as err:
        if isinstance(err, DataError):
            raise
        raise DataError(f"{place}: not readable as Parquet ({err})") from err


def _of_table(table: pa.Table, names: dict[str, str | None], box: tuple[str, ...]) -> _Rows:
    def column(key: str, otherwise: float) -> NDArray[np.float64]:
        name = names[key]
        values = np.full(len(table), otherwise) if name is None else table[name].to_numpy()
        return np.asarray(values, np.float64)

    boxes = np.column_stack([np.asarray(table[name].to_numpy(), np.float64) for name in box])
    if box[-1] == "ymax":
        boxes[:, 2:] -= boxes[:, :2]
    said = [""] * len(table) if names["class"] is None else table[names["class"]].to_pylist()
    kinds = np.array(["" if k is None else str(k) for k in said], object)
    frame, ids = column("frame", 0), column("id", -1)
    if not all(map(whole, np.unique(frame).tolist())):
        raise DataError("frame: not a whole number in each row")
    return _Rows(frame.astype(np.int64), boxes, column("confidence", 1), kinds, _ids(ids))


def whole(value: float) -> bool:
    """Whether a number is one of a frame: whole, not negative, and exact."""
    return 0 <= value < 2**53 and value == int(value)


def _ids(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ids as whole numbers, -1 for anything else."""
    return np.where(np.abs(values) < 2**53, values, -1).astype(np.int64)


def _there(path: str | Path, field: str) -> Path:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"{field}: {str(path)!r} does not exist; expected a file")
    return check_regular(place)
