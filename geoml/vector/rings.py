"""Rings of axis-parallel polygons, edited as whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    def __len__(self) -> int:
        """How many polygons."""
        return len(self.polygon_offsets) - 1

    @classmethod
    def of(cls, polygons: NDArray[np.object_]) -> Rings:
        """Take polygons apart. Raises InputError if something else is among them."""
        if len(polygons) == 0:
            return cls(np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))
        if not (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all():
            raise InputError("geometry: expected polygons only")
        _, coords, (rings, parts) = shapely.to_ragged_array(polygons, include_z=False)
        return cls(coords, rings.astype(np.int64), parts.astype(np.int64))

    def moved(self, coords: Coordinates) -> Rings:
        """The same rings with other coordinates."""
        return replace(self, coords=coords)

    def polygons(self) -> NDArray[np.object_]:
        """The polygons again."""
        offsets = self.ring_offsets, self.polygon_offsets
        geometry: NDArray[np.object_] = shapely.from_ragged_array(shapely.GeometryType.POLYGON, self.coords, offsets)
        return geometry

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Rings:
        """The polygons of an index or a mask, in its order."""
        rows = np.arange(len(self))[index]
        rings, polygon_offsets = _spans(self.polygon_offsets, rows)
        vertices, ring_offsets = _spans(self.ring_offsets, rings)
        return Rings(self.coords[vertices], ring_offsets, polygon_offsets)

    @classmethod
    def joined(cls, parts: Sequence[Rings]) -> Rings:
        """The polygons of each after those before."""

        def chained(offsets: Sequence[Index]) -> Index:
            before = np.cumsum([0, *(o[-1] for o in offsets)])
            return np.concatenate([before[:1], *(o[1:] + b for o, b in zip(offsets, before, strict=False))])

        coords = np.concatenate([np.empty((0, 2)), *(part.coords for part in parts)])
        return cls(coords, chained([p.ring_offsets for p in parts]), chained([p.polygon_offsets for p in parts]))

    def bounds(self) -> NDArray[np.float64]:
        """(n, 4) xmin, ymin, xmax, ymax."""
        if not len(self):
            return np.empty((0, 4))
        starts = self.ring_offsets[self.polygon_offsets[:-1]]
        return np.concatenate(
            [np.minimum.reduceat(self.coords, starts, axis=0), np.maximum.reduceat(self.coords, starts, axis=0)], axis=1
        )

    def signed(self) -> NDArray[np.float64]:
        """Area of each ring, negative where it runs clockwise (y upwards), as GEOS sums it up."""
        n = np.diff(self.ring_offsets)
        ring = np.repeat(np.arange(len(n)), n)
        x, y = self.coords.T
        inner = np.ones(len(x), bool)
        inner[self.ring_offsets[1:] - 1], inner[self.ring_offsets[:-1]] = False, False
        at = np.flatnonzero(inner)
        parts = (x[at] - x[self.ring_offsets[ring[at]]]) * (y[at + 1] - y[at - 1])
        return np.bincount(ring[at], parts, len(n)).astype(np.float64) / 2

    def areas(self) -> NDArray[np.float64]:
        """(n,) of the polygons, without their holes."""
        area = np.abs(self.signed())
        area[~self.outer()] *= -1
        return np.bincount(self.polygon_of_ring(), area, len(self)).astype(np.float64)

    def outer(self) -> NDArray[np.bool_]:
        """Which rings are not holes."""
        found = np.zeros(len(self.ring_offsets) - 1, bool)
        found[self.polygon_offsets[:-1]] = True
        return found

    def normalized(self) -> Rings:
        """As ``shapely.normalize`` has the corners of polygons whose outer rings run counterclockwise (y upwards).

        Each ring starts at its lowest x, then y, and runs the other way; holes come from that with most corners, then
        the highest start, down. Vertices on straight edges change nothing.
        """
        if not len(self):
            return self
        starts, n = self.ring_offsets[:-1], np.diff(self.ring_offsets) - 1
        low = self.coords.min(axis=0)
        x, y = (self.coords - low).astype(np.int64).T
        key = x * (y.max() + 1) + y
        least = np.minimum.reduceat(key, starts)
        ring = np.repeat(np.arange(len(n)), n + 1)
        found = np.flatnonzero(key == least[ring])
        first = np.empty(len(n), np.int64)
        first[ring[found[::-1]]] = found[::-1]  # where a ring starts it also ends, so the first one counts
        order = np.lexsort((-least, -self._corners(), ~self.outer(), self.polygon_of_ring()))
        starts, n, first = starts[order], n[order], first[order] - starts[order]
        ends = np.cumsum(n + 1)
        step = np.arange(ends[-1]) - np.repeat(ends - n - 1, n + 1)
        at = np.repeat(starts, n + 1) + (np.repeat(first, n + 1) - step) % np.repeat(n, n + 1)
        return Rings(self.coords[at], np.concatenate([[0], ends]), self.polygon_offsets)

    def _corners(self) -> Index:
        """How many corners each ring has; 0 where that makes no difference to the order of holes."""
        count = np.zeros(len(self.ring_offsets) - 1, np.int64)
        several = np.diff(self.polygon_offsets) > 2
        if several.any():
            some = self.take(several)
            edges = some.edges()
            heading = np.sign(some.coords[edges + 1] - some.coords[edges]) @ [1, 2]
            opens = some.ring_offsets[:-1] - np.arange(len(some.ring_offsets) - 1)
            turns = heading != np.roll(heading, 1)
            turns[opens] = heading[opens] != heading[np.append(opens[1:], len(edges)) - 1]
            count[several[self.polygon_of_ring()]] = np.add.reduceat(turns, opens, dtype=np.int64)
        return count

    def polygon_of_ring(self) -> Index:
        """Which polygon each ring is of."""
        return np.repeat(np.arange(len(self)), np.diff(self.polygon_offsets))

    def edges(self) -> Index:
        """Positions in ``coords`` where an edge starts (it ends at the next position)."""
        starts = np.ones(len(self.coords), bool)
        starts[self.ring_offsets[1:] - 1] = False
        return np.flatnonzero(starts)

    def owner(self, position: Index) -> Index:
        """The polygon that positions in ``coords`` belong to."""
        return np.searchsorted(self.ring_offsets[self.polygon_offsets], position, "right") - 1


def share_vertices(rings: Rings) -> Rings:
    """Polygons on one pixel lattice with every vertex that lies on a border present on both of its sides.

    Neighbours then still fit without gaps after a projection or a simplification.
    """
    if not len(rings.coords):
        return rings
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
    return _insert(rings, edges[edge] + 1, lattice[pick] + low)


def bend(rings: Rings, step: int) -> Rings:
    """A vertex at each multiple of ``step`` pixels on every edge that is longer, so that it bends with a projection.

    On both sides of a border alike where they share their vertices.
    """
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


def _spans(offsets: Index, index: Index) -> tuple[Index, Index]:
    """Positions from one offset to the next of those in ``index``, one after the other, and their own offsets."""
    count = np.diff(offsets)[index]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
    return np.repeat(offsets[index] - new[:-1], count) + np.arange(new[-1]), new


def _ranks(count: Index) -> Index:
    """0, 1, … within each run of ``count``."""
    return np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _insert(rings: Rings, before: Index, points: Coordinates) -> Rings:
    """``points`` put in front of the (sorted) positions ``before``."""
    moved = rings.ring_offsets + np.searchsorted(before, rings.ring_offsets, "left")
    return Rings(np.insert(rings.coords, before, points, axis=0), moved, rings.polygon_offsets)
