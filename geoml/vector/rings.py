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
    corner = (heading[:, 0] != before[:, 0]) | (heading[:, 1] != before[:, 1])
    ring = np.repeat(np.arange(len(opens)), closes - opens + 1)[corner]
    corners = rings.coords[edges[corner]]
    starts = np.searchsorted(ring, np.arange(len(opens) + 1))
    closed = np.insert(corners, starts[1:], corners[starts[:-1]], axis=0)
    return Rings(closed, starts + np.arange(len(starts)), rings.polygon_offsets).polygons()


def share_vertices(polygons: NDArray[np.object_], step: int | None = None) -> NDArray[np.object_]:
    """Polygons on one pixel lattice with every vertex that lies on a border present on both of its sides.

    Neighbours then still fit without gaps after a projection or a simplification. With ``step`` edges longer than that
    also get a vertex at each multiple of ``step`` pixels, so that they bend with a projection, equally on both sides.
    """
    rings = Rings.of(polygons)
    if not len(rings.coords):
        return polygons
    low = rings.coords.min(axis=0)
    points = (rings.coords - low).astype(np.int64)
    size = points.max() + 2
    edges, axis, begin, end = _long_edges(points, rings.edges(), 1)
    count, first = np.zeros(len(edges), np.int64), np.zeros(len(edges), np.int64)
    lattice = np.empty((0, 2), np.int64)
    for along in (0, 1):  # edges along x, then along y
        vertices = np.sort(points[:, 1 - along] * size + points[:, along])
        vertices = vertices[np.diff(vertices, prepend=-1) > 0]
        mine = np.flatnonzero(axis == along)
        line = points[edges[mine], 1 - along] * size
        a = np.searchsorted(vertices, line + np.minimum(begin[mine], end[mine]), "right")
        b = np.searchsorted(vertices, line + np.maximum(begin[mine], end[mine]), "left")
        first[mine], count[mine] = len(lattice) + a, b - a
        across, position = np.divmod(vertices, size)
        lattice = np.concatenate([lattice, np.column_stack([across, position] if along else [position, across])])
    edge, rank = np.repeat(np.arange(len(edges)), count), _ranks(count)
    pick = first[edge] + np.where((begin < end)[edge], rank, count[edge] - 1 - rank)
    rings = _insert(rings, edges[edge] + 1, lattice[pick] + low)
    return rings.polygons() if step is None else _cut(rings, step).polygons()


def _cut(rings: Rings, step: int) -> Rings:
    """A vertex at each multiple of ``step`` on every edge that is longer."""
    edges, axis, begin, end = _long_edges(rings.coords.astype(np.int64), rings.edges(), step)
    low = np.minimum(begin, end) // step + 1
    high = -(-np.maximum(begin, end) // step) - 1
    count = np.maximum(high - low + 1, 0)
    edge, rank = np.repeat(np.arange(len(edges)), count), _ranks(count)
    points = rings.coords[edges[edge]]
    multiple = np.where((begin < end)[edge], low[edge] + rank, high[edge] - rank)
    points[np.arange(len(edge)), axis[edge]] = step * multiple
    return _insert(rings, edges[edge] + 1, points)


def _long_edges(points: Index, edges: Index, length: int) -> tuple[Index, Index, Index, Index]:
    """Edges longer than ``length``: position, axis along which they run, and where on it they begin and end."""
    x, y = points.T
    edges = edges[np.abs(x[edges + 1] - x[edges]) + np.abs(y[edges + 1] - y[edges]) > length]  # one of them is zero
    axis = (points[edges, 0] == points[edges + 1, 0]).astype(np.int64)
    return edges, axis, points[edges, axis], points[edges + 1, axis]


def _ranks(count: Index) -> Index:
    """0, 1, … within each run of ``count``."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _insert(rings: Rings, before: Index, points: Coordinates) -> Rings:
    """``points`` put in front of the (sorted) positions ``before``."""
    moved = rings.ring_offsets + np.searchsorted(before, rings.ring_offsets, "left")
    return Rings(np.insert(rings.coords, before, points, axis=0), moved, rings.polygon_offsets)
