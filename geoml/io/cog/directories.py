"""The directories of a TIFF that others made: which of its overviews have a mask, which GDAL does not tell."""

from __future__ import annotations

import struct
from collections.abc import Callable

Bytes = Callable[[int, int], bytes]
"""(start, count) -> so many bytes of a file, fewer at its end."""

MOST = 256
"""Directories and tags of one that are read; a chain that is longer or turns back ends there."""

SUBFILE = 254
REDUCED, MASK = 1, 4


def mask_overviews(read: Bytes) -> int:
    """How many overviews of the file have a mask of their own; 0 for what is not a TIFF.

    TIFF 6.0, NewSubfileType: bit 0 a reduced resolution, bit 2 a transparency mask; BigTIFF has wider fields.
    """
    head = read(0, 16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return 0
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        return 0
    big = version == 43
    at = struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}I", head, 4)[0]
    count, seen = 0, set[int]()
    while at and at not in seen and len(seen) < MOST:
        seen.add(at)
        kind, at = _directory(read, at, order, big=big)
        count += kind & (REDUCED | MASK) == REDUCED | MASK
    return count


def _directory(read: Bytes, at: int, order: str, *, big: bool) -> tuple[int, int]:
    """(NewSubfileType, offset of the next directory) of the one at ``at``; zeros where the file ends before."""
    count_size, entry, next_size = (8, 20, 8) if big else (2, 12, 4)
    start = read(at, count_size)
    if len(start) < count_size:
        return 0, 0
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", start)
    body = read(at + count_size, count * entry + next_size) if count <= MOST else b""
    if len(body) < count * entry + next_size:
        return 0, 0
    kind = 0
    for k in range(count):
        code, form = struct.unpack_from(f"{order}HH", body, k * entry)
        if code == SUBFILE and form in (3, 4):
            (kind,) = struct.unpack_from(f"{order}{'H' if form == 3 else 'I'}", body, k * entry + (12 if big else 8))
    (after,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", body, count * entry)
    return kind, after
