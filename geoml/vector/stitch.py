"""Pieces of regions that lines of a lattice cut apart, joined to whole polygons.

Along a line the border of a region is where it lies on one side only, so what lies on both sides cancels out. All
else of the pieces' borders stays as it is. The cost is that of sorting what lies on lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.vector.polygons import concatenated
from geoml.vector.rings import Rings
from geoml.vector.walk import walk

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Edges:
    """Directed edges with the region on the right hand, y downwards: from (x0, y0) to (x1, y1), of a group."""

    group: Index
    x0: Index
    y0: Index
    x1: Index
    y1: Index

    def heading(self) -> Index:
        """0 east, 1 south, 2 west, 3 north."""
        dx, dy = np.sign(self.x1 - self.x0), np.sign(self.y1 - self.y0)
        found: Index = np.where(dy == 0, 1 - dx, 2 - dy)
        return found


def stitch(pieces: Rings, group: Index, size: int, kept: tuple[Index, Index, Index]) -> Rings:
    """One polygon for each group 0 … n - 1 of pieces, which is 4-connected as a whole.

    Vertices that are corners of pieces only are gone; those inside of squares stay.

    Args:
        pieces: (k,) polygons on the lattice of pixels as `geoml.vector.polygonise` gives them, each inside a square.
        group: (k,) which polygon each is a part of.
        size: pixels of a square; lines lie on its multiples.
        kept: (group, x, y) of places on lines where the border of a group has a vertex although it may go straight on.
    """
    start = pieces.edges()
    owner = group[pieces.owner(start)]
    x0, y0 = pieces.coords[start].T.astype(np.int64)
    x1, y1 = pieces.coords[start + 1].T.astype(np.int64)
    across = (x0 == x1) & (x0 % size == 0), (y0 == y1) & (y0 % size == 0)
    off = ~(across[0] | across[1])
    parts = [_Edges(*(c[off] for c in (owner, x0, y0, x1, y1)))]
    for vertical, on in zip((True, False), across, strict=True):
        line, a, b = (x0, y0, y1) if vertical else (y0, x0, x1)
        at = (kept[1], kept[2]) if vertical else (kept[2], kept[1])
        mine = at[0] % size == 0
        points = kept[0][mine], at[0][mine], at[1][mine]
        parts.append(_left_on_lines(vertical, (owner[on], line[on], a[on], b[on]), points))
    return _polygons(concatenated(parts), size, kept)


def _left_on_lines(
    vertical: bool, pieces: tuple[Index, Index, Index, Index], points: tuple[Index, Index, Index]
) -> _Edges:
    """What is left of the (group, line, from, to) on the lines of one direction, cut at the (group, line, at) too."""
    group, line, a, b = pieces
    low, high = np.minimum(a, b), np.maximum(a, b)
    ahead = a < b
    # each piece opens and closes a stretch, of those that run one way or of those that run the other
    owner = np.concatenate([group, group, points[0]])
    lines, place = np.concatenate([line, line, points[1]]), np.concatenate([low, high, points[2]])
    none = np.zeros(len(points[0]), np.int64)
    there = np.concatenate([ahead.astype(np.int64), -ahead.astype(np.int64), none])
    back = np.concatenate([(~ahead).astype(np.int64), -(~ahead).astype(np.int64), none])
    cut = np.concatenate([np.zeros(2 * len(group), bool), np.ones(len(none), bool)])
    order = np.lexsort((place, lines, owner))
    owner, lines, place, there, back, cut = (c[order] for c in (owner, lines, place, there, back, cut))
    if not len(owner):
        return _Edges(*(np.empty(0, np.int64) for _ in range(5)))
    new_line = np.ones(len(owner), bool)
    new_line[1:] = (np.diff(owner) != 0) | (np.diff(lines) != 0)
    new = new_line.copy()
    new[1:] |= np.diff(place) != 0
    first = np.flatnonzero(new)
    state = np.cumsum(np.add.reduceat(there, first)) - np.cumsum(np.add.reduceat(back, first))  # 0: on both sides
    breaks = np.logical_or.reduceat(cut, first) | new_line[first]
    breaks[1:] |= np.diff(state) != 0
    begin = np.flatnonzero(breaks & (state != 0))
    stops = np.flatnonzero(breaks)
    end = stops[np.searchsorted(stops, begin, "right")]
    owner, lines, place, state = owner[first], lines[first], place[first], state[begin]
    tail, head = (
        np.where(state > 0, place[begin], place[end]),
        np.where(state > 0, place[end], place[begin]),
    )
    at = lines[begin]
    return _Edges(owner[begin], *((at, tail, at, head) if vertical else (tail, at, head, at)))


def _polygons(edges: _Edges, size: int, kept: tuple[Index, Index, Index]) -> Rings:
    """Polygons of the groups from all of their edges."""
    # the topmost corner of a group belongs to its outer ring, so the lowest number of its edges does
    order = np.lexsort((edges.x0, edges.y0, edges.group))
    edges = _Edges(*(c[order] for c in (edges.group, edges.x0, edges.y0, edges.x1, edges.y1)))
    heading = edges.heading()
    low = min(edges.x0.min(), edges.x1.min(), edges.y0.min(), edges.y1.min())
    span = int(max(edges.x0.max(), edges.y0.max()) - low + 1)

    def ranked(x: Index, y: Index, group: Index) -> Index:
        found: Index = (group * span + y - low) * span + x - low
        return found

    start, end = ranked(edges.x0, edges.y0, edges.group), ranked(edges.x1, edges.y1, edges.group)
    following = np.searchsorted(start, end)
    # where a region touches itself in a corner two edges start: turning left keeps each ring from meeting itself
    two = np.flatnonzero((following + 1 < len(start)) & (start[np.minimum(following + 1, len(start) - 1)] == end))
    following[two] += heading[following[two]] != (heading[two] + 3) % 4
    region, order, opens = walk(following.astype(np.int32), lambda edge: edges.group[edge])

    straight = np.zeros(len(start), bool)
    straight[following] = heading[following] == heading
    fixed = np.isin(start, ranked(kept[1], kept[2], kept[0])) | ((edges.x0 % size != 0) & (edges.y0 % size != 0))
    stays = (~straight | fixed)[order]
    ring = np.repeat(np.arange(len(opens)), np.diff(np.append(opens, len(order))))[stays]
    order = order[stays]
    opens = np.searchsorted(ring, np.arange(len(opens)))
    corners = np.column_stack([edges.x0[order], edges.y0[order]]).astype(np.float64)
    ends = np.append(opens[1:], len(corners))
    closed = np.insert(corners, ends, corners[opens], axis=0)
    starts = np.append(opens, len(corners)) + np.arange(len(opens) + 1)
    return Rings(closed, starts, np.searchsorted(region, np.arange(int(region[-1]) + 2)))
