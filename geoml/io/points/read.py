"""Points of a window, of any number of files, in metres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.io.points.bins import read_squares
from geoml.io.points.box import Bounds, holds, tell, touches
from geoml.io.points.cloud import Cloud, joined
from geoml.io.points.copc import read_nodes
from geoml.io.points.ept import read_tiles
from geoml.io.points.files import PointBytes, using_points
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.laz import raw_parts
from geoml.io.points.records import Points, decoded
from geoml.io.points.source import PointSource, axes


def read_window(sources: Sequence[PointSource], bounds: Bounds) -> Cloud:
    """The points with left <= x < right and bottom < y <= top of ``bounds`` (left, bottom, right, top) in metres.

    A point on the edge of two windows is in one of them: rows go down, so the upper edge of a cell is its own. Withheld
    points, noise (classes 7 and 18) and points beyond the box of their header are left out. Raises InputError for
    sources that lie in several CRSs, and the errors of reading, with the file.
    """
    for field in ("crs", "vertical"):
        if len(found := {getattr(s, field) or "unknown" for s in sources}) > 1:
            raise InputError(f"points: their {field} differs ({', '.join(sorted(found))}); expected one")
    parts = [part for source in sources if touches(source.bounds, bounds) for part in _read(source, bounds)]
    return joined(parts)


def _read(source: PointSource, bounds: Bounds) -> list[Cloud]:
    if source.kind == "bins":
        return [c.take(inside(c.x, c.y, bounds)) for c in read_squares(source, bounds)]
    return using_points(source.place, lambda file: list(_clouds(file, source, bounds)), source.begins)


def _clouds(file: PointBytes, source: PointSource, bounds: Bounds) -> Iterator[Cloud]:
    beyond = count = 0
    for header, points in _points(file, source, bounds):
        cloud = points.cloud(axes(header, source))
        held = holds(source.bounds, cloud.x, cloud.y)
        count, beyond = count + len(cloud), beyond + int((points.kept & ~held).sum())
        yield cloud.take(points.kept & held & inside(cloud.x, cloud.y, bounds))
    tell(source.href, beyond, count)


def _points(file: PointBytes, source: PointSource, bounds: Bounds) -> Iterator[tuple[LasHeader, Points]]:
    unit = float(source.xy)
    left, bottom, right, top = (v / unit for v in bounds)
    if source.kind == "copc":
        yield from read_nodes(file, source.place, (left, bottom, right, top))
        return
    if source.kind == "ept":
        yield from read_tiles(source.place, file, (left, bottom, right, top))
        return
    header = read_header(file)
    for raw in raw_parts(file, header):
        yield header, decoded(raw, header.format, header.record_bytes)


def inside(x: NDArray[np.float64], y: NDArray[np.float64], bounds: Bounds) -> NDArray[np.bool_]:
    """(n,) which points a window holds: left <= x < right, bottom < y <= top."""
    left, bottom, right, top = bounds
    return (left <= x) & (x < right) & (bottom < y) & (y <= top)
