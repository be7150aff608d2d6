"""The directories of a TIFF that others made: their layout, and which have a mask, read without GDAL.

Format: TIFF 6.0, and BigTIFF with wider fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Bytes = Callable[[int, int], bytes]
"""(start, count) -> so many bytes of a file, fewer at its end."""

MOST = 256
"""Directories and tags of one that are read; a chain that is longer or turns back ends there."""

SUBFILE = 254
REDUCED, MASK = 1, 4
WIDTH, HEIGHT, BITS, PER_PIXEL, ROWS, PLANAR, TILE_WIDTH, TILE_HEIGHT, SAMPLE = (
    256,
    257,
    258,
    277,
    278,
    284,
    322,
    323,
    339,
)
FORMS = {3: "H", 4: "I", 16: "Q"}
"""Unsigned integers of 2, 4 and 8 bytes, by the type of a tag."""
KINDS = {1: "uint", 2: "int", 3: "float"}
"""By SampleFormat; others are complex or say nothing."""


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """How the pixels of the first directory are stored. ``dtype`` is "" for complex numbers and what is unknown."""

    shape: tuple[int, int, int]
    """(bands, rows, columns)"""
    tile: tuple[int, int]
    planes: int
    """Bands in one tile."""
    dtype: str
    itemsize: int


def mask_overviews(read: Bytes) -> int:
    """How many overviews of the file have a mask of their own, which GDAL does not tell; 0 for what is not a TIFF."""
    kinds = (found.get(SUBFILE, 0) for found in _directories(read))
    return sum(kind & (REDUCED | MASK) == REDUCED | MASK for kind in kinds)


def has_mask(read: Bytes) -> bool:
    """Whether any level of the file has a mask."""
    return any(found.get(SUBFILE, 0) & MASK for found in _directories(read))


def first_layout(read: Bytes) -> TiffLayout | None:
    """The layout of the full resolution; None for what is not a TIFF, or not whole."""
    found = next(_directories(read), {})
    height, width = found.get(HEIGHT, 0), found.get(WIDTH, 0)
    if min(height, width) < 1:
        return None
    count, bits = max(found.get(PER_PIXEL, 1), 1), found.get(BITS, 1)
    itemsize = next((n for n in (1, 2, 4, 8) if bits <= 8 * n), bits // 8)
    kind = KINDS.get(found.get(SAMPLE, 1), "")
    rows = min(found.get(ROWS, height), height) or height
    tile = (
        (found[TILE_HEIGHT] or 1, found[TILE_WIDTH] or 1)
        if {TILE_HEIGHT, TILE_WIDTH} <= found.keys()
        else (rows, width)
    )
    planes = count if found.get(PLANAR, 1) == 1 else 1
    return TiffLayout((count, height, width), tile, planes, f"{kind}{8 * itemsize}" if kind else "", itemsize)


def _directories(read: Bytes) -> Iterator[Mapping[int, int]]:
    """The first value of each tag of unsigned integers, by its code, of one directory after the other."""
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        return
    big = version == 43
    at = struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}I", head, 4)[0]
    seen = set[int]()
    while at and at not in seen and len(seen) < MOST:
        seen.add(at)
        found, at = _directory(read, at, order, big=big)
        yield found


def _directory(read: Bytes, at: int, order: str, *, big: bool) -> tuple[Mapping[int, int], int]:
    """(tags, offset of the next directory) of the one at ``at``; nothing where the file ends before."""
    count_size, entry, next_size = (8, 20, 8) if big else (2, 12, 4)
    start = read(at, count_size)
    if len(start) < count_size:
        return {}, 0
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", start)
    body = read(at + count_size, count * entry + next_size) if count <= MOST else b""
    if len(body) < count * entry + next_size:
        return {}, 0
    found = {}
    for k in range(count):
        code, form = struct.unpack_from(f"{order}HH", body, k * entry)
        if form not in FORMS:
            continue
        (many,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", body, k * entry + 4)
        place, size = k * entry + (12 if big else 8), struct.calcsize(FORMS[form])
        value = body[place : place + size]
        if many * size > (8 if big else 4):  # the tag holds where its values are
            (where,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", body, place)
            value = read(where, size) if code in (BITS, SAMPLE) else b""
        if len(value) == size:
            (found[code],) = struct.unpack(f"{order}{FORMS[form]}", value)
    (after,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", body, count * entry)
    return found, after
