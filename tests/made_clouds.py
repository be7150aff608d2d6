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


def write_copc(path: Path, source: Path, per_node: int = 10_000, levels: int = 6, pages: bool = False) -> None:
    """The points of a LAS file as COPC, each node with a random share of what lies below it, level after level."""
    import copclib

    las = laspy.convert(laspy.read(source), point_format_id=6, file_version="1.4")
    scale, offset = las.header.scales, las.header.offsets
    low, high = las.header.mins, las.header.maxs
    config = copclib.CopcConfigWriter(6, copclib.Vector3(*scale), copclib.Vector3(*offset), "")
    config.las_header.min, config.las_header.max = copclib.Vector3(*low), copclib.Vector3(*high)
    middle, half = (low + high) / 2, float((high - low).max() / 2 + 0.01)
    config.copc_info.center_x, config.copc_info.center_y, config.copc_info.center_z = map(float, middle)
    config.copc_info.halfsize, config.copc_info.spacing = half, half / 64
    writer = copclib.FileWriter(str(path), config)
    places = np.stack([np.asarray(v) for v in (las.x, las.y, las.z)], 1)
    raw = las.points.array
    left = np.random.default_rng(0).permutation(len(raw))
    for level in range(levels + 1):
        keys = np.floor((places[left] - (middle - half)) / (2 * half / 2**level)).astype(int)
        _, node = np.unique(keys, axis=0, return_inverse=True)
        node = node.reshape(-1)
        order = np.argsort(node, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(node[order]) > 0])
        rest = []
        for chosen in np.split(order, starts[1:]):
            here = chosen if level == levels else chosen[:per_node]
            rest.append(chosen[len(here) :])
            key = copclib.VoxelKey(level, *map(int, keys[chosen[0]]))
            page = copclib.VoxelKey(0, 0, 0, 0)
            if pages and level >= 2:
                page = copclib.VoxelKey(2, *(int(v) >> (level - 2) for v in keys[chosen[0]]))
            body = np.sort(left[here])
            writer.AddNode(key, copclib.VectorChar(np.frombuffer(raw[body].tobytes(), np.int8)), page)
        left = left[np.concatenate(rest)]
        if not len(left):
            break
    writer.Close()


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
