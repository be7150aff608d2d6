"""The TIFF around the tiles: tags as GDAL writes them, in the order that a Cloud Optimized GeoTIFF wants.

Nothing here invents a tag. GDAL writes an empty one-tile GeoTIFF of the same kind (CRS, nodata, colours, statistics,
scale, …), its directory is read back, and only what differs is replaced: size, tile offsets and tile byte counts.

Specifications: TIFF 6.0 section 2; BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html); OGC 21-026 Cloud
Optimized GeoTIFF 1.0; GDAL's ghost area (https://gdal.org/drivers/raster/cog.html, "Header ghost area").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tag = tuple[int, int, bytes]
"""Type code, number of values, the values as little-endian bytes."""

SUBFILE, WIDTH, HEIGHT, TILE_OFFSETS, TILE_BYTES = 254, 256, 257, 324, 325
GDAL_METADATA, GDAL_NODATA = 42112, 42113
FULL_SIZE_ONLY = (33550, 33922, 34264, 34735, 34736, 34737, GDAL_METADATA)
"""Georeference and metadata: GDAL takes them for overviews from the full size."""

SHORT, LONG, LONG8 = 3, 4, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\n"
    b"BLOCK_ORDER=ROW_MAJOR\n"
    b"BLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\n"
    b"KNOWN_INCOMPATIBLE_EDITION=NO\n "
)
GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT
"""Tells readers that a tile has its length before it and its last four bytes repeated after it."""
LEADER = 4
"""Bytes before a tile."""


@dataclass(frozen=True, slots=True)
class LevelTable:
    """One resolution: its size in pixels, and where its tiles lie in its own stream of framed tiles."""

    width: int
    height: int
    offsets: NDArray[np.uint64]
    """(tiles,) row-major; of the compressed bytes, after the leader."""
    lengths: NDArray[np.uint32]
    size: int
    """Bytes of the stream."""


def framed(tile: bytes) -> bytes:
    """A compressed tile between its leader (length, uint32) and its trailer (last four bytes again)."""
    return b"".join((len(tile).to_bytes(4, "little"), tile, tile[-4:]))


def first_directory(tiff: bytes) -> dict[int, Tag]:
    """The tags of the first directory of a little-endian classic TIFF (what GDAL writes here when asked to)."""
    if tiff[:4] != b"II*\0":
        raise ValueError("not a little-endian classic TIFF")
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    tags: dict[int, Tag] = {}
    for k in range(count):
        at = start + 2 + 12 * k
        code, kind, number = struct.unpack_from("<HHI", tiff, at)
        size = _SIZES[kind] * number
        place = at + 8 if size <= 4 else struct.unpack_from("<I", tiff, at + 8)[0]
        tags[code] = (kind, number, tiff[place : place + size])
    return tags


def cog_header(template: Mapping[int, Tag], levels: Sequence[LevelTable], bigtiff: bool | None = None) -> bytes:
    """Everything before the tiles: header, ghost area, directories, tile tables.

    ``levels`` go from full size to the smallest; their streams must follow the header in the *opposite* order.
    ``bigtiff`` None chooses classic TIFF whenever the whole file ends below 4 GiB.
    """
    data = sum(level.size for level in levels)
    if bigtiff is None:
        bigtiff = len(_assemble(template, levels, 0, big=False)) + data >= 2**32
    length = len(_assemble(template, levels, 0, big=bigtiff))  # does not depend on where the data start
    return _assemble(template, levels, length, big=bigtiff)


def _assemble(template: Mapping[int, Tag], levels: Sequence[LevelTable], data_start: int, *, big: bool) -> bytes:
    starts, at = {}, data_start
    for k in reversed(range(len(levels))):  # smallest overview first: one short read shows the whole map
        starts[k], at = at, at + levels[k].size
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0)
    inline, count_size, entry = (8, 8, "<HHQ") if big else (4, 2, "<HHI")
    out = bytearray(head + GHOST)
    link = len(head) - inline  # where the offset of the next directory goes
    tables: list[tuple[int, bytes]] = []  # tile tables come after all directories
    for k, level in enumerate(levels):
        tags = _level_tags(template, level, starts[k], full_size=k == 0, big=big)
        _pad(out)
        struct.pack_into("<Q" if big else "<I", out, link, len(out))
        start = len(out)
        out += bytes(count_size + len(tags) * (4 + 2 * inline) + inline)
        struct.pack_into("<Q" if big else "<H", out, start, len(tags))
        link = len(out) - inline
        for i, (code, (kind, number, value)) in enumerate(sorted(tags.items())):
            at = start + count_size + i * (4 + 2 * inline)
            struct.pack_into(entry, out, at, code, kind, number)
            field = at + 4 + inline
            if len(value) <= inline:
                out[field : field + len(value)] = value
            elif code in (TILE_OFFSETS, TILE_BYTES):
                tables.append((field, value))
            else:
                _place(out, field, value, inline)
    for field, value in tables:
        _place(out, field, value, inline)
    _pad(out)
    return bytes(out)


def _level_tags(
    template: Mapping[int, Tag], level: LevelTable, start: int, *, full_size: bool, big: bool
) -> dict[int, Tag]:
    tags = dict(template) if full_size else {k: v for k, v in template.items() if k not in FULL_SIZE_ONLY}
    if not full_size:
        tags[SUBFILE] = (LONG, 1, struct.pack("<I", 1))
    tags[WIDTH] = (LONG, 1, struct.pack("<I", level.width))
    tags[HEIGHT] = (LONG, 1, struct.pack("<I", level.height))
    number, offsets = len(level.lengths), level.offsets + np.uint64(start)
    tags[TILE_OFFSETS] = (LONG8 if big else LONG, number, offsets.astype("<u8" if big else "<u4").tobytes())
    tags[TILE_BYTES] = (LONG, number, level.lengths.astype("<u4").tobytes())
    return tags


def _place(out: bytearray, field: int, value: bytes, inline: int) -> None:
    """Append a value that does not fit into its directory entry and point the entry at it."""
    _pad(out)
    struct.pack_into("<Q" if inline == 8 else "<I", out, field, len(out))
    out += value


def _pad(out: bytearray) -> None:
    """To a multiple of 8 bytes; TIFF asks for 2."""
    out += bytes(-len(out) % 8)
