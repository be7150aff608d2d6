"""GeoKeys of a LAS file that spell out a projection, read by GDAL as those of a TIFF: both formats share them."""

from __future__ import annotations

import struct

import pyproj
import rasterio
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoml.io.crs import horizontal
from geoml.io.points.header import PROJECTION, LasHeader

DIRECTORY, NUMBERS, TEXTS = 34735, 34736, 34737
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2


def spelled_out(header: LasHeader) -> pyproj.CRS | None:
    """The CRS of the keys, in the unit that they say; None if GDAL finds none."""
    parts = {number: header.record(PROJECTION, number) for number in (DIRECTORY, NUMBERS, TEXTS)}
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            MemoryFile(_tiff(parts)) as memory,
            memory.open(driver="GTiff") as file,
        ):
            text = file.crs.to_wkt() if file.crs else ""
        return horizontal(pyproj.CRS.from_wkt(text)) if text else None
    except (RasterioError, ProjError, ValueError):
        return None


def _tiff(parts: dict[int, bytes | None]) -> bytes:
    """One grey pixel with a place and these tags."""
    tags = [(256, _SHORT, [1]), (257, _SHORT, [1]), (258, _SHORT, [8]), (259, _SHORT, [1]), (262, _SHORT, [1])]
    tags += [(273, _LONG, [8]), (277, _SHORT, [1]), (278, _SHORT, [1]), (279, _LONG, [1])]
    entries = [
        (number, kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values))
        for number, kind, values in tags
    ]
    entries += [
        (33550, _DOUBLE, 3, struct.pack("<3d", 2, 2, 0)),
        (33922, _DOUBLE, 6, struct.pack("<6d", 0, 0, 0, 7, 9, 0)),
    ]
    for number, kind, size in ((DIRECTORY, _SHORT, 2), (NUMBERS, _DOUBLE, 8), (TEXTS, _ASCII, 1)):
        if data := parts.get(number):
            entries.append((number, kind, len(data) // size, data[: len(data) // size * size]))
    place = 16 + 2 + 12 * len(entries) + 4
    table, behind = struct.pack("<H", len(entries)), b""
    for number, kind, count, data in entries:
        if len(data) <= 4:
            value = data.ljust(4, b"\0")
        else:
            value = struct.pack("<I", place + len(behind))
            behind += data + b"\0" * (len(data) % 2)
        table += struct.pack("<HHI", number, kind, count) + value
    return struct.pack("<2sHI", b"II", 42, 16) + bytes(8) + table + bytes(4) + behind
