"""Rings of axis-parallel polygons, edited as whole arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError

Coordinates = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rings:
    """Closed rings of polygons: ``coords`` (n, 2), where each ring starts, and which ring each polygon starts with.

    Both offsets have one entry more than there are rings or polygons.
    """

    coords: Coordinates
    ring_offsets: Index
    polygon_offsets: Index

    @classmethod
    def of(cls, polygons: NDArray[np.object_]) -> Rings:
        """Take polygons apart. Raises InputError when something else is among them."""
        if len(polygons) == 0:
            return cls(np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
        if not (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all():
            raise InputError("geometry: expected polygons only")
        _, coords, (rings, parts) = shapely.to_ragged_array(polygons, include_z=False)
        return cls(coords, rings.astype(np.int64), parts.astype(np.int64))

    def polygons(self) -> NDArray[np.object_]:
        """The polygons again."""
        offsets = self.ring_offsets, self.polygon_offsets
        geometry: NDArray[np.object_] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, self.coords, offsets)
        return geometry

    def edges(self) -> Index:
        """Positions in ``coords`` where an edge starts (it ends at the next position)."""
        starts = np.ones(len(self.coords), bool)
        starts[self.ring_offsets[1:] - 1] = False
        return np.flatnonzero(starts)

    def owner(self, position: Index) -> Index:
        """The polygon that positions in ``coords`` belong to."""
        return np.searchsorted(self.ring_offsets[self.polygon_offsets], position, "right") - 1


def straighten(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Corners only: vertices between two edges of one direction are dropped, also where a ring starts."""
    rings = Rings.of(polygons)
    edges = rings.edges()
    if not len(edges):
        return polygons
    heading = np.sign(rings.coords[edges + 1] - rings.coords[edges])
    opens = rings.ring_offsets[:-1] - np.arange(len(rings.ring_offsets) - 1)  # first edge of each ring
    closes = np.append(opens[1:], len(edges)) - 1
    before = np.roll(heading, 1, axis=0)
    before[opens] = heading[closes]
    kept = (heading != before).any(axis=1)
    ring = np.repeat(np.arange(len(opens)), closes - opens + 1)[kept]
    corners = rings.coords[edges[kept]]
    starts = np.searchsorted(ring, np.arange(len(opens) + 1))
    closed = np.insert(corners, starts[1:], corners[starts[:-1]], axis=0)
    return Rings(closed, starts + np.arange(len(starts)), rings.polygon_offsets).polygons()


def share_vertices(polygons: NDArray[np.object_], step: int | None = None) -> NDArray[np.object_]:
    """Polygons on one pixel lattice with every vertex that lies on a border present on both of its sides.

    Neighbours then still fit without gaps after a projection or a simplification. With ``step`` edges also get a
    vertex wherever they cross a multiple of ``step`` pixels, so that long edges bend with a projection, equally on
    both sides.
    """
    rings = Rings.of(polygons)
    if not len(rings.coords):
        return polygons
    low = rings.coords.min(axis=0)
    points = (rings.coords - low).astype(np.int64)
    size = points.max() + 2
    edges = rings.edges()
    start, stop = points[edges], points[edges + 1]
    count, first = np.zeros(len(edges), np.int64), np.zeros(len(edges), np.int64)
    lookups = []
    used = 0
    for axis in (0, 1):  # edges along x, then along y
        other = 1 - axis
        vertices = np.sort(points[:, other] * size + points[:, axis])
        vertices = vertices[np.diff(vertices, prepend=-1) > 0]
        along = np.flatnonzero(start[:, other] == stop[:, other])
        line = start[along, other] * size
        a = np.searchsorted(vertices, line + np.minimum(start[along, axis], stop[along, axis]), "right")
        b = np.searchsorted(vertices, line + np.maximum(start[along, axis], stop[along, axis]), "left")
        first[along], count[along] = used + a, b - a
        used += len(vertices)
        lookups.append(np.column_stack(np.divmod(vertices, size)[:: 1 if axis else -1]))
    known = np.concatenate(lookups)
    forward = (stop - start).sum(axis=1) > 0
    rank = _ranks(count)
    edge = np.repeat(np.arange(len(edges)), count)
    pick = np.where(forward[edge], first[edge] + rank, first[edge] + count[edge] - 1 - rank)
    rings = _insert(rings, edges[edge] + 1, known[pick] + low)
    return rings.polygons() if step is None else _cut(rings, step).polygons()


def _cut(rings: Rings, step: int) -> Rings:
    """A vertex on every edge at each multiple of ``step``."""
    edges = rings.edges()
    start, stop = rings.coords[edges], rings.coords[edges + 1]
    axis = (start[:, 0] == stop[:, 0]).astype(np.int64)  # the one that varies
    every = np.arange(len(edges))
    a, b = start[every, axis], stop[every, axis]
    low = np.floor(np.minimum(a, b) / step).astype(np.int64) + 1
    high = np.ceil(np.maximum(a, b) / step).astype(np.int64) - 1
    count = np.maximum(high - low + 1, 0)
    rank = _ranks(count)
    edge = np.repeat(every, count)
    points = start[edge]
    points[np.arange(len(edge)), axis[edge]] = step * np.where((a < b)[edge], low[edge] + rank, high[edge] - rank)
    return _insert(rings, edges[edge] + 1, points)


def _ranks(count: Index) -> Index:
    """0, 1, … within each run of ``count``."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _insert(rings: Rings, before: Index, points: Coordinates) -> Rings:
    """``points`` put in front of the (sorted) positions ``before``."""
    moved = rings.ring_offsets + np.searchsorted(before, rings.ring_offsets, "left")
    return Rings(np.insert(rings.coords, before, points, axis=0), moved, rings.polygon_offsets)
