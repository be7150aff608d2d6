"""Points of a window, of any number of files, in metres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.io.points.bins import read_squares
from geoml.io.points.cloud import Cloud, joined
from geoml.io.points.copc import read_nodes
from geoml.io.points.ept import read_tiles
from geoml.io.points.files import PointBytes, using_points
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.plain import plain_points
from geoml.io.points.records import Points
from geoml.io.points.source import PointSource, axes

Bounds = tuple[float, float, float, float]


def read_window(sources: Sequence[PointSource], bounds: Bounds) -> Cloud:
    """The points with left <= x < right and bottom < y <= top of ``bounds`` (left, bottom, right, top) in metres.

    A point on the edge of two windows is in one of them: rows go down, so the upper edge of a cell is its own. Withheld
    points and noise (classes 7 and 18) are left out. Raises InputError for sources that lie in several CRSs, and the
    errors of reading, with the file.
    """
    for field in ("crs", "vertical"):
        if len(found := {getattr(s, field) or "unknown" for s in sources}) > 1:
            raise InputError(f"points: their {field} differs ({', '.join(sorted(found))}); expected one")
    parts = [part for source in sources if _touches(source.bounds, bounds) for part in _read(source, bounds)]
    return joined(parts)


def _touches(one: Bounds, other: Bounds) -> bool:
    """Whether boxes meet, a micrometre of rounding in the first one allowed for."""
    slack = 1e-6
    return (
        one[0] - slack < other[2]
        and other[0] <= one[2] + slack
        and one[1] - slack <= other[3]
        and other[1] < one[3] + slack
    )


def _read(source: PointSource, bounds: Bounds) -> list[Cloud]:
    if source.kind == "bins":
        return [c.take(inside(c.x, c.y, bounds)) for c in read_squares(source, bounds)]
    return using_points(source.place, lambda file: list(_clouds(file, source, bounds)), source.begins)


def _clouds(file: PointBytes, source: PointSource, bounds: Bounds) -> Iterator[Cloud]:
    for header, points in _points(file, source, bounds):
        cloud = points.cloud(axes(header, source))
        yield cloud.take(points.kept & inside(cloud.x, cloud.y, bounds))


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
    for points in plain_points(file, header, source.href):
        yield header, points


def inside(x: NDArray[np.float64], y: NDArray[np.float64], bounds: Bounds) -> NDArray[np.bool_]:
    """(n,) which points a window holds: left <= x < right, bottom < y <= top."""
    left, bottom, right, top = bounds
    return (left <= x) & (x < right) & (bottom < y) & (y <= top)
