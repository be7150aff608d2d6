"""Files without an index, read once in a run: their points go to a file sorted by square, which windows then read.

A plain LAS or LAZ file keeps its points in the order of flight, so that any window of it costs the whole file. Here it
is read once in parts of some million points; each part is sorted by the square that a point lies in and appended, and
an index says where each part has each square. No part is ever merged: a window reads one piece a part and square.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.points.box import holds, tell
from geoml.io.points.cloud import Cloud
from geoml.io.points.files import PointBytes, PointPlace, using_points
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.lattice import MetreAxis, axis
from geoml.io.points.laz import raw_parts
from geoml.io.points.records import Points, decoded, together
from geoml.io.points.source import PointSource, axes
from geoml.io.stores.scratch import scratch
from geoml.io.stores.store import atomic

PART = 2**20
"""Points that are sorted at once."""

SQUARES = 512
"""Squares along the longer side of a file, at most."""

LEAST = 32.0
"""Metres of the side of a square, at least."""

_RECORD = np.dtype(
    [("x", "<i4"), ("y", "<i4"), ("z", "<i4"), ("intensity", "<u2")]
    + [(name, "u1") for name in ("classification", "returns", "synthetic")]
)
"""A point: 17 bytes. ``returns`` has the number of its return in the low four bits, of returns in the others."""

_INDEX = np.dtype([("square", "<i8"), ("start", "<i8"), ("count", "<i8")])
_HEAD = 4096
_MAGIC = b"geoml points 1\n"
_WIDE = 2**30
"""Squares of an axis on either side of the origin."""


@dataclass(frozen=True)
class _Layout:
    """The head of a file of squares."""

    side: float
    scales: tuple[float, float, float]
    offsets: tuple[float, float, float]
    count: int
    pieces: int
    bounds: tuple[float, float, float, float]


def binned(sources: Sequence[PointSource], folder: Path) -> list[PointSource]:
    """``sources`` with those of no index (LAS and LAZ) replaced by files of squares in ``folder``, made where missing.

    A file takes 17 bytes a point there, and some 100 MB of memory while it is made, whatever its size. The bounds of
    the new sources are those of the points. Raises the errors of reading.
    """
    return [_binned(s, folder) if s.kind in ("las", "laz") else s for s in sources]


def _binned(source: PointSource, folder: Path) -> PointSource:
    return using_points(source.place, lambda file: _from_file(file, source, folder))


def _from_file(file: PointBytes, source: PointSource, folder: Path) -> PointSource:
    what = [source.href, list(file.version), source.crs, str(source.vertical), str(source.xy), str(source.z)]
    path = folder / f"{hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]}.points"
    if not path.is_file():
        with atomic(path) as temporary, temporary.open("w+b") as out:
            _write(file, source, out)
    layout = _layout(path)
    place = PointPlace(str(path))
    return replace(source, kind="bins", count=layout.count, bounds=layout.bounds, place=place, plain=source.place)


def _write(file: PointBytes, source: PointSource, out: BinaryIO) -> None:
    header = read_header(file)
    at = axes(header, source)
    side = _side(source.bounds)
    out.write(bytes(_HEAD))
    index: list[NDArray[np.void]] = []
    box = np.array([np.inf, np.inf, -np.inf, -np.inf])
    done = 0
    for points in _parts(file, header, source):
        x, y = at[0].metres(points.x), at[1].metres(points.y)
        if not len(x):
            continue
        box = np.r_[np.minimum(box[:2], [x.min(), y.min()]), np.maximum(box[2:], [x.max(), y.max()])]
        square = _squares(x, y, side)
        order = np.argsort(square, kind="stable")
        square = square[order]
        starts = np.flatnonzero(np.r_[True, square[1:] != square[:-1]])
        piece = np.zeros(len(starts), _INDEX)
        piece["square"], piece["start"] = square[starts], starts + done
        piece["count"] = np.diff(np.r_[starts, len(square)])
        index.append(piece)
        out.write(_packed(points, order).tobytes())
        done += len(square)
    whole = np.concatenate([np.zeros(0, _INDEX), *index])
    out.write(whole[np.argsort(whole["square"], kind="stable")].tobytes())
    bounds = tuple(map(float, box)) if done else source.bounds
    layout = _Layout(side, header.scales, header.offsets, done, len(whole), bounds)  # type: ignore[arg-type]
    out.seek(0)
    out.write(_MAGIC + json.dumps(asdict(layout)).encode())


def _parts(file: PointBytes, header: LasHeader, source: PointSource) -> Iterator[Points]:
    """All points that are kept, in parts of `PART` points or little more."""
    waiting: list[Points] = []
    at, beyond = axes(header, source), 0
    for raw in raw_parts(file, header):
        points = decoded(raw, header.format, header.record_bytes)
        points = points.take(points.kept)
        held = holds(source.bounds, at[0].metres(points.x), at[1].metres(points.y))
        beyond += int((~held).sum())
        waiting.append(points.take(held))
        if sum(len(p.x) for p in waiting) >= PART:
            yield together(waiting)
            waiting = []
    if waiting:
        yield together(waiting)
    tell(source.href, beyond, header.count)


def _side(bounds: tuple[float, float, float, float]) -> float:
    """Metres of a square, a power of two times `LEAST`, so that there are at most `SQUARES` along the longer side."""
    extent = max(bounds[2] - bounds[0], bounds[3] - bounds[1], 1.0)
    steps = extent / (LEAST * SQUARES)
    return float(LEAST * 2 ** max(0, math.ceil(math.log2(steps)))) if math.isfinite(steps) else LEAST


def _squares(x: NDArray[np.float64], y: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    column, row = np.floor(x / side), np.floor(y / side)
    if max(np.abs(column).max(), np.abs(row).max()) >= _WIDE:
        raise DataError("its points are nowhere on the Earth")
    return row.astype(np.int64) * 2 * _WIDE + column.astype(np.int64) + _WIDE


def _packed(points: Points, order: NDArray[np.intp]) -> NDArray[np.void]:
    table = np.empty(len(order), _RECORD)
    for name in ("x", "y", "z", "intensity", "classification", "synthetic"):
        table[name] = getattr(points, name)[order]
    table["returns"] = (points.returned | points.returns << 4)[order]
    return table


def _layout(path: Path) -> _Layout:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(_MAGIC):
        raise DataError(f"{path}: no file of squares")
    said = json.loads(head[len(_MAGIC) :].rstrip(b"\0"))
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in said.items()}
    return _Layout(**values)


def read_squares(source: PointSource, bounds: tuple[float, float, float, float]) -> Iterator[Cloud]:
    """Points of the squares that a window in metres touches; some of them lie beyond it."""
    path = Path(source.href)
    if not path.is_file() and source.plain is not None:  # made on another machine: once more for the blocks of this one
        path = Path(_binned(replace(source, place=source.plain, plain=None), scratch("points")).href)
    layout = _layout(path)
    at = [axis(*v) for v in zip(layout.scales, layout.offsets, (source.xy, source.xy, source.z), strict=True)]
    index = np.memmap(path, _INDEX, "r", _HEAD + layout.count * _RECORD.itemsize, (layout.pieces,))
    low, high = np.maximum(bounds[:2], layout.bounds[:2]), np.minimum(bounds[2:], layout.bounds[2:])
    left, bottom, right, top = (math.floor(v / layout.side) for v in (*low, *high))
    for row in range(bottom, top + 1):
        ends = (row * 2 * _WIDE + column + _WIDE for column in (left, right + 1))
        first, last = np.searchsorted(index["square"], list(ends))
        pieces = [_piece(path, int(start), int(count)) for _, start, count in index[first:last]]
        if pieces:
            yield _cloud(np.concatenate(pieces), at)


def _piece(path: Path, start: int, count: int) -> NDArray[np.void]:
    return np.fromfile(path, _RECORD, count, offset=_HEAD + start * _RECORD.itemsize)


def _cloud(table: NDArray[np.void], at: Sequence[MetreAxis]) -> Cloud:
    x, y, z = (a.metres(table[name]) for a, name in zip(at, "xyz", strict=True))
    bits = table["returns"]
    columns = (table["classification"], bits & 15, bits >> 4, table["intensity"], table["synthetic"] != 0)
    return Cloud(x, y, z, *(np.ascontiguousarray(c) for c in columns))
