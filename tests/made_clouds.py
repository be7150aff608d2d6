"""Files of points with known contents, made byte by byte or by laspy."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import laspy
import numpy as np
import pyproj
from numpy.typing import NDArray


def made_points(count: int = 500, seed: int = 0, side: float = 100.0) -> dict[str, NDArray[np.generic]]:
    """Columns of ``count`` points on a square of ``side`` metres at (500000, 5000000), to a centimetre."""
    rng = np.random.default_rng(seed)
    x, y = (np.round(rng.uniform(0, side, count), 2) for _ in range(2))
    return {
        "x": 500_000 + x,
        "y": 5_000_000 + y,
        "z": np.round(rng.uniform(100, 120, count), 2),
        "classification": rng.choice([1, 2, 5, 6, 7], count).astype(np.uint8),
        "return_number": rng.integers(1, 3, count).astype(np.uint8),
        "number_of_returns": np.full(count, 2, np.uint8),
        "intensity": rng.integers(0, 2**16, count).astype(np.uint16),
        "synthetic": rng.random(count) < 0.1,
        "withheld": rng.random(count) < 0.1,
    }


def las_bytes(
    columns: dict[str, NDArray[np.generic]],
    version: str = "1.4",
    point_format: int = 6,
    crs: str | None = "EPSG:32632",
    compressed: bool = True,
    scales: Sequence[float] = (0.01, 0.01, 0.01),
    offsets: Sequence[float] = (500_000.0, 5_000_000.0, 0.0),
) -> bytes:
    """A LAS or LAZ file as laspy writes it."""
    header = laspy.LasHeader(version=version, point_format=point_format)
    header.scales, header.offsets = np.array(scales), np.array(offsets)
    if crs is not None:
        header.add_crs(pyproj.CRS.from_user_input(crs))
    las = laspy.LasData(header)
    for name, values in columns.items():
        las[name] = values
    out = io.BytesIO()
    las.write(out, do_compress=compressed)
    return out.getvalue()


def write_las(path: Path, **options: object) -> dict[str, NDArray[np.generic]]:
    """A made file; its columns."""
    columns = made_points()
    path.write_bytes(las_bytes(columns, **options))  # type: ignore[arg-type]
    return columns


def with_record(las: bytes, user: str, number: int, data: bytes) -> bytes:
    """A LAS file with one more record in its header."""
    out = bytearray(las)
    (start, count) = struct.unpack_from("<II", out, 96)
    record = struct.pack("<H16sHH32s", 0, user.encode(), number, len(data), b"") + data
    struct.pack_into("<II", out, 96, start + len(record), count + 1)
    out[start:start] = record
    if out[104] & 0x80:  # where the table of chunks is
        (table,) = struct.unpack_from("<q", out, start + len(record))
        struct.pack_into("<q", out, start + len(record), table + len(record))
    return bytes(out)
