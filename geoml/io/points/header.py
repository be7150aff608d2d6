"""The header of a LAS file, checked against the file before anything believes it (LAS 1.0 to 1.4, formats 0 to 10).

Offsets and sizes are those of the ASPRS LAS Specification 1.4 R15.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from geoml.errors import DataError
from geoml.io.points.files import PointBytes

log = logging.getLogger(__name__)

RECORD_BYTES = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
"""Bytes of a point of each format, extra bytes left out."""

MAX_VLR_BYTES = 2**24
"""All variable-length records of a header; more is not a header."""

MAX_EVLR_BYTES = 2**20
"""One extended record that is read; others are passed over, however long."""

MAX_EVLRS = 4096
PROJECTION = "LASF_Projection"
"""The user of records that say where a file lies."""

MAX_COORDINATE = 1e12
_EXTRA = (0, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, *(n * w for n in (2, 3) for w in (1, 1, 2, 2, 4, 4, 8, 8, 4, 8)))
"""Bytes of an extra value by its type; type 0 says its own count."""


@dataclass(frozen=True)
class VariableRecord:
    """One variable-length record."""

    user: str
    number: int
    data: bytes


@dataclass(frozen=True)
class LasHeader:
    """What a LAS file says of itself, in its own units."""

    version: tuple[int, int]
    encoding: int
    """Global encoding; bit 4 says that the CRS is a WKT."""
    format: int
    """Point format, 0 to 10, without the bits of LASzip."""
    compressed: bool
    record_bytes: int
    count: int
    start: int
    """Offset of the point data."""
    scales: tuple[float, float, float]
    offsets: tuple[float, float, float]
    mins: tuple[float, float, float]
    maxs: tuple[float, float, float]
    records: tuple[VariableRecord, ...]
    end: int
    """Offset of the first extended record, else the size of the file: points end before it."""
    made: dt.date | None = None
    """Day on which the file was made; None: it does not say."""

    def record(self, user: str, number: int) -> bytes | None:
        """The data of the first record of a kind; None without one."""
        return next((r.data for r in self.records if (r.user, r.number) == (user, number)), None)


def read_header(file: PointBytes, extended: bool = False) -> LasHeader:
    """The checked header of a file, with what ``extended`` records say of its CRS if asked for.

    Raises DataError that says what is wrong with it.
    """
    head = file.read(0, 375)
    if not head.startswith(b"LASF"):
        raise DataError(f"not a LAS or LAZ file, it starts with {head[:40]!r}")
    if len(head) < 227:
        raise DataError(f"cut in its header: {len(head)} bytes")
    version = (head[24], head[25])
    if version not in ((1, 0), (1, 1), (1, 2), (1, 3), (1, 4)):
        raise DataError(f"LAS {version[0]}.{version[1]}; versions 1.0 to 1.4 are read")
    size, start, vlrs, kind, record_bytes, count = struct.unpack_from("<HIIBHI", head, 94)
    first_evlr, evlrs = 0, 0
    if version == (1, 4):
        if len(head) < 375 or size < 375:
            raise DataError(f"a header of {size} bytes; LAS 1.4 has 375")
        first_evlr, evlrs, now = struct.unpack_from("<QIQ", head, 235)
        count = now or count
    if not 227 <= size <= start:
        raise DataError(f"a header of {size} bytes before points at {start}")
    if start > file.size:
        raise DataError(f"points begin at byte {start} of a file of {file.size}")
    point_format = kind & 0x3F
    if point_format not in RECORD_BYTES or kind & 0x40:
        raise DataError(f"point format {kind}; 0 to 10 are read")
    if record_bytes < RECORD_BYTES[point_format]:
        raise DataError(
            f"points of {record_bytes} bytes; format {point_format} has at least {RECORD_BYTES[point_format]}"
        )
    numbers = struct.unpack_from("<12d", head, 131)
    scales, offsets = numbers[0:3], numbers[3:6]
    if not all(math.isfinite(s) and s > 0 for s in scales):
        raise DataError(f"scales {scales}; expected numbers above 0")
    if not all(math.isfinite(o) and abs(o) <= MAX_COORDINATE for o in offsets) or max(scales) * 2**31 > MAX_COORDINATE:
        raise DataError(f"offsets {offsets} and scales {scales} lead to no place on the Earth")
    mins, maxs = (numbers[7], numbers[9], numbers[11]), (numbers[6], numbers[8], numbers[10])
    if count and not all(-math.inf < low <= high < math.inf for low, high in zip(mins, maxs, strict=True)):
        raise DataError(f"a box from {mins} to {maxs}, which holds no point")
    end = file.size
    if evlrs > MAX_EVLRS:
        raise DataError(f"{evlrs} extended records; at most {MAX_EVLRS} are read")
    if evlrs:
        if not start <= first_evlr < file.size:
            raise DataError(f"extended records at byte {first_evlr} of a file of {file.size}")
        end = first_evlr
    compressed = bool(kind & 0x80)
    if not compressed and start + count * record_bytes > end:
        raise DataError(
            f"{count} points of {record_bytes} bytes do not fit in a file of {file.size}: truncated or inconsistent"
        )
    records = list(_vlrs(file, size, start, vlrs))
    if extended:
        records += _evlrs(file, first_evlr, evlrs)
    header = LasHeader(
        version=version,
        encoding=struct.unpack_from("<H", head, 6)[0],
        format=point_format,
        compressed=compressed,
        record_bytes=record_bytes,
        count=count,
        start=start,
        scales=scales,
        offsets=offsets,
        mins=mins,
        maxs=maxs,
        records=tuple(records),
        end=end,
        made=_day(*struct.unpack_from("<HH", head, 90)),
    )
    _check_extra_bytes(header)
    by_return = struct.unpack_from("<15Q", head, 255) if version == (1, 4) else struct.unpack_from("<5I", head, 111)
    if sum(by_return) > count:
        log.warning(
            "points: a header says %d points, and %d by their returns; %d are read", count, sum(by_return), count
        )
    return header


def _day(day: int, year: int) -> dt.date | None:
    """Of a day of a year, from 1."""
    if not (1 <= day <= 366 and 1970 <= year <= 2100):
        return None
    return dt.date(year, 1, 1) + dt.timedelta(days=day - 1)


def _vlrs(file: PointBytes, place: int, start: int, count: int) -> Iterator[VariableRecord]:
    if count * 54 > start - place or start - place > MAX_VLR_BYTES:
        raise DataError(f"{count} records between byte {place} and {start}; at most {MAX_VLR_BYTES} bytes are read")
    block = file.read(place, start - place)
    at = 0
    for number in range(count):
        if at + 54 > len(block):
            raise DataError(f"record {number + 1} of {count} lies beyond the header")
        user, kind, length = struct.unpack_from("<16sHH", block, at + 2)
        at += 54
        if at + length > len(block):
            raise DataError(f"record {number + 1} of {count} has {length} bytes, more than the header")
        yield VariableRecord(_text(user), kind, block[at : at + length])
        at += length


def _evlrs(file: PointBytes, place: int, count: int) -> Iterator[VariableRecord]:
    """Extended records that may hold a CRS; others are not read."""
    if count and file.size - place <= MAX_EVLR_BYTES:
        file.read(place, file.size - place)  # all of them at once, as a file elsewhere keeps what was read
    for number in range(count):
        head = file.read(place, 60)
        if len(head) < 60:
            raise DataError(f"extended record {number + 1} of {count} lies beyond the file")
        user, kind, length = struct.unpack_from("<16sHQ", head, 2)
        if place + 60 + length > file.size:
            raise DataError(f"extended record {number + 1} of {count} has {length} bytes, more than the file")
        if _text(user) == PROJECTION:
            if length > MAX_EVLR_BYTES:
                raise DataError(f"a CRS of {length} bytes; at most {MAX_EVLR_BYTES} are read")
            yield VariableRecord(_text(user), kind, file.read(place + 60, length))
        place += 60 + length


def _text(value: bytes) -> str:
    return value.split(b"\0")[0].decode("ascii", "replace").strip()


def _check_extra_bytes(header: LasHeader) -> None:
    """Raises DataError if more extra bytes are described than a point has."""
    data = header.record("LASF_Spec", 4)
    if data is None:
        return
    have = header.record_bytes - RECORD_BYTES[header.format]
    described = 0
    for at in range(0, len(data) - len(data) % 192, 192):
        kind, options = data[at + 2], data[at + 3]
        if kind >= len(_EXTRA):
            raise DataError(f"extra bytes of the unknown type {kind}")
        described += options if kind == 0 else _EXTRA[kind]
    if len(data) % 192 or described > have:
        raise DataError(f"extra bytes of {described} bytes are described, a point has {have}")
