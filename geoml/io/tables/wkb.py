"""Rings of polygons as well-known binary (OGC 06-103r4, 8.2), all at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from geoml.vector.rings import Rings

_POLYGON = np.frombuffer(b"\x01\x03\x00\x00\x00", np.uint8)
"""Little-endian, a polygon; its number of rings follows."""


def of_rings(rings: Rings) -> pa.Array:
    """(n,) binary of polygons, the same bytes as ``shapely.to_wkb`` gives."""
    count = np.diff(rings.ring_offsets)
    per = np.diff(rings.polygon_offsets)
    ring_bytes = np.concatenate([[0], np.cumsum(4 + 16 * count)])
    starts = ring_bytes[rings.polygon_offsets] + 9 * np.arange(len(per) + 1)
    polygon = np.repeat(np.arange(len(per)), per)
    ring_at = ring_bytes[:-1] + 9 * (polygon + 1)
    out = np.empty(starts[-1], np.uint8)
    coordinates = np.ones(starts[-1], np.bool_)
    for at, value in (
        (starts[:-1], np.broadcast_to(_POLYGON, (len(per), 5))),
        (starts[:-1] + 5, _number(per)),
        (ring_at, _number(count)),
    ):
        place = at[:, None] + np.arange(value.shape[1])
        out[place], coordinates[place] = value, False
    out[coordinates] = np.ascontiguousarray(rings.coords, "<f8").view(np.uint8).ravel()
    if starts[-1] < 2**31:
        return pa.BinaryArray.from_buffers(
            pa.binary(), len(per), [None, pa.py_buffer(starts.astype(np.int32)), pa.py_buffer(out)]
        )
    large = [None, pa.py_buffer(starts.astype(np.int64)), pa.py_buffer(out)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(per), large)


def _number(values: np.ndarray) -> np.ndarray:
    """(n, 4) bytes of uint32."""
    return np.ascontiguousarray(values, "<u4").view(np.uint8).reshape(-1, 4)
