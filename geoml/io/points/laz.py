"""Points of a LAS or LAZ file in parts, decoded by lazrs after every offset and size of it was checked.

Chunks are those of LASzip (Isenburg, "LASzip: lossless compression of LiDAR data", 2013): each decodes alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError, MissingExtra
from geoml.io.points.files import PointBytes
from geoml.io.points.header import LasHeader

T = TypeVar("T")

MAX_CHUNKS = 2**24
"""Chunks of a file that are believed."""

PART = 2**18
"""Points that are read at once where nothing else says it."""

GROUP = 2**23
"""Bytes of chunks that are read at once."""

MAX_CHUNK_BYTES = 2**28
"""A chunk that decodes to more is refused."""

_WANTED = ("XY_RETURNS_CHANNEL", "Z", "CLASSIFICATION", "FLAGS", "INTENSITY")
"""Layers that are decoded where a format has layers."""

_VARIABLE = 2**32 - 1
_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
"""Layers of each kind of item of LASzip 3; 14, the extra bytes, has one for each byte."""


@dataclass(frozen=True)
class Chunk:
    """Points that lie together: ``start`` and ``size`` in bytes of the file."""

    start: int
    size: int
    count: int


def backend() -> ModuleType:
    """lazrs. Raises MissingExtra without it."""
    try:
        import lazrs
    except ImportError as err:
        raise MissingExtra("points: lazrs is not installed; pip install 'geoml[points]'") from err
    return lazrs  # type: ignore[no-any-return]


def laszip_record(header: LasHeader) -> bytes:
    """The checked record of LASzip. Raises DataError for one that lies or is not read."""
    data = header.record("laszip encoded", 22204)
    if data is None or len(data) < 34:
        raise DataError("compressed, but without the record of LASzip")
    compressor, coder = struct.unpack_from("<HH", data, 0)
    (items,) = struct.unpack_from("<H", data, 32)
    if compressor not in (2, 3) or coder != 0:
        raise DataError(f"LASzip compressor {compressor} and coder {coder}; 2 and 3 (chunks) with 0 are read")
    if items > 32 or len(data) < 34 + 6 * items:
        raise DataError(f"LASzip lists {items} items in {len(data)} bytes")
    sizes = [struct.unpack_from("<H", data, 34 + 6 * n + 2)[0] for n in range(items)]
    if sum(sizes) != header.record_bytes:
        raise DataError(f"LASzip has points of {sum(sizes)} bytes, the header of {header.record_bytes}")
    return data


def chunks(file: PointBytes, header: LasHeader) -> list[Chunk]:
    """Where the points lie, in the order of the file. Raises DataError for a table that lies or a file that is cut."""
    if not header.compressed:
        step = header.record_bytes
        return [
            Chunk(header.start + at * step, min(PART, header.count - at) * step, min(PART, header.count - at))
            for at in range(0, header.count, PART)
        ]
    record = laszip_record(header)
    table = _table(file, header, record)
    (most,) = struct.unpack_from("<I", record, 12)
    found, place, left = [], header.start + 8, header.count
    for number, (count, size) in enumerate(table):
        take = count if most == _VARIABLE else min(most, left)
        _check_chunk(header, number, take, size, place, left)
        found.append(Chunk(place, size, take))
        place, left = place + size, left - take
    if left:
        raise DataError(f"{len(table)} chunks hold {header.count - left} points, the header says {header.count}")
    return found


def _table(file: PointBytes, header: LasHeader, record: bytes) -> list[tuple[int, int]]:
    """(points or 0, bytes) of each chunk."""
    (place,) = struct.unpack("<q", file.read(header.start, 8).ljust(8, b"\xff"))
    if place == -1:  # written by a program that could not go back
        (place,) = struct.unpack("<q", file.read(file.size - 8, 8))
    if not header.start + 8 <= place <= file.size - 8:
        raise DataError(
            f"its table of chunks would be at byte {place} of a file of {file.size}: truncated or inconsistent"
        )
    version, count = struct.unpack("<II", file.read(place, 8))
    (most,) = struct.unpack_from("<I", record, 12)
    bound = min(MAX_CHUNKS, (file.size - header.start) // header.record_bytes + 1)  # each has its first point as it is
    if most != _VARIABLE:
        bound = min(bound, -(-header.count // max(1, most)))
    if version != 0 or most == 0 or count > bound:
        raise DataError(f"its table of chunks has version {version} and {count} chunks for {header.count} points")
    if count == 0:
        return []
    data = file.read(place, min(file.size - place, 16 + 16 * count))
    lazrs = backend()
    return decoding(lambda: list(lazrs.read_chunk_table_only(BytesIO(data), lazrs.LazVlr(record))))


def _check_chunk(header: LasHeader, number: int, count: int, size: int, place: int, left: int) -> None:
    if not 0 < count <= left or not 0 < size <= header.end - place:
        raise DataError(
            f"chunk {number} has {count} points in {size} bytes from byte {place}: truncated or inconsistent"
        )
    check_size(header, count, f"chunk {number}")


def check_size(header: LasHeader, count: int, what: str) -> None:
    """Raises DataError for points that could not be decoded in bounded memory."""
    if count * header.record_bytes > MAX_CHUNK_BYTES:
        raise DataError(f"{what} decodes to {count * header.record_bytes} bytes; at most {MAX_CHUNK_BYTES} are read")


def decoding(action: Callable[[], T]) -> T:
    """What ``action`` of lazrs returns; what it raises, a panic too, is a DataError."""
    try:
        return action()
    except MemoryError:
        raise
    except BaseException as err:  # a panic of Rust is not an Exception
        if not isinstance(err, Exception) and type(err).__name__ != "PanicException":
            raise
        raise DataError(f"cannot be decoded ({str(err)[:120]}): cut or damaged") from err


def decompressed(header: LasHeader, record: bytes, parts: list[tuple[bytes, int]]) -> NDArray[np.uint8]:
    """Records of chunks (their bytes, their points), one after the other; of formats 6 to 10 without times and colours.

    Raises DataError for damaged ones.
    """
    out = np.zeros(sum(n for _, n in parts) * header.record_bytes, np.uint8)
    table = [(n, len(body)) for body, n in parts]
    whole = b"".join(body for body, _ in parts)
    lazrs = backend()
    wanted = lazrs.DecompressionSelection(sum(getattr(lazrs, f"SELECTIVE_DECOMPRESS_{name}") for name in _WANTED))
    decoding(lambda: lazrs.decompress_points_with_chunk_table(whole, record, out, table, wanted))
    return out


def raw_parts(file: PointBytes, header: LasHeader) -> Iterator[bytes | NDArray[np.uint8]]:
    """Records of all points, in parts of some megabytes, in the order of the file."""
    record = laszip_record(header) if header.compressed else b""
    for group in groups(chunks(file, header), header.record_bytes):
        start, size = group[0].start, sum(c.size for c in group)
        body = file.read(start, size)
        if len(body) < size:
            raise DataError(f"cut: {len(body)} of {size} bytes from byte {start}")
        if not header.compressed:
            yield body
            continue
        parts = [(body[c.start - start : c.start - start + c.size], c.count) for c in group]
        for chunk, (part, _) in zip(group, parts, strict=True):
            check_count(header, chunk, part)
        yield decompressed(header, record, parts)


def groups(found: Sequence[Chunk], record_bytes: int, size: int = GROUP) -> Iterator[list[Chunk]]:
    """Chunks in their order, as many together as are read (``size`` bytes) and decoded (four times that) at once."""
    group: list[Chunk] = []
    packed = unpacked = 0
    for chunk in found:
        packed, unpacked = packed + chunk.size, unpacked + chunk.count * record_bytes
        if group and (packed > size or unpacked > 4 * size):
            yield group
            group, packed, unpacked = [], chunk.size, chunk.count * record_bytes
        group.append(chunk)
    if group:
        yield group


def check_count(header: LasHeader, chunk: Chunk, body: bytes) -> None:
    """Raises DataError if a chunk in layers (formats 6 to 10) contradicts its own size, or the count of its table.

    After its first point such a chunk has its count and the sizes of its layers (LASzip 3), which are believed when it
    is decoded.
    """
    if header.format < 6:
        return
    record, fixed = laszip_record(header), header.record_bytes + 4
    (items,) = struct.unpack_from("<H", record, 32)
    kinds = [struct.unpack_from("<HH", record, 34 + 6 * n) for n in range(items)]
    layers = sum(size if kind == 14 else _LAYERS.get(kind, 0) for kind, size in kinds)
    if len(body) < fixed + 4 * layers:
        raise DataError(f"the chunk at byte {chunk.start} has {len(body)} bytes, less than a point")
    (count,) = struct.unpack_from("<I", body, header.record_bytes)
    sizes = struct.unpack_from(f"<{layers}I", body, fixed)
    if count != chunk.count or fixed + 4 * layers + sum(sizes) != len(body):
        raise DataError(
            f"the chunk at byte {chunk.start} says {count} points and layers of {sum(sizes)} bytes, its table"
            f" {chunk.count} points in {len(body)}: damaged or inconsistent"
        )
