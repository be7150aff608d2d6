"""Polygons of blocks joined to whole features.

What a block cuts apart is put together again exactly: coordinates are whole pixels, so borders either meet or do not.
The outcome is what polygonising the whole plane at once would give, for any block size and any order of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.vector.polygons import Features, Polygons, concatenated
from geoml.vector.rings import Rings, share_vertices, straighten

Index = NDArray[np.int64]


class FeatureMerger:
    """Takes the polygons of one block after the other and gives whole features at the end.

    Only polygons that touch the edge of their block are compared with others; memory is that of the polygons.
    """

    def __init__(self) -> None:
        self._sizes: dict[Plane, int] = {}
        self._seen: set[str] = set()
        self._inner: list[Features] = []
        self._edge: dict[Plane, list[tuple[str, Polygons, _Seams]]] = {}

    def add(self, block: Block, polygons: Polygons) -> None:
        """Take the polygons of a block, as ``polygonise`` gives them for its window or a part of it.

        Raises InputError for a block that came before, another block size on the same plane, or polygons outside it.
        """
        if block.id in self._seen:
            raise InputError(f"block: {block.id} was added before")
        if self._sizes.setdefault(block.plane, block.size) != block.size:
            raise InputError(f"block: {block.id} does not fit blocks of {self._sizes[block.plane]} pixels")
        self._seen.add(block.id)
        if not len(polygons):
            return
        w = block.window
        x0, y0, x1, y1 = shapely.bounds(polygons.geometry).T
        if x0.min() < w.x0 or y0.min() < w.y0 or x1.max() > w.x1 or y1.max() > w.y1:
            raise InputError(f"polygons: not inside block {block.id}; expected pixel coordinates of the plane")
        touches = (x0 == w.x0) | (y0 == w.y0) | (x1 == w.x1) | (y1 == w.y1)
        inner, edge = polygons.take(~touches), polygons.take(touches)
        if len(inner):
            self._inner.append(_features(block.plane, inner, _tuples([(block.id,)] * len(inner))))
        if len(edge):
            self._edge.setdefault(block.plane, []).append((block.id, edge, _seams(edge, w)))

    def merged(self) -> Iterator[Features]:
        """All features in batches: those inside a block, block by block, then the joined ones, plane by plane."""
        yield from self._inner
        for plane, parts in self._edge.items():
            yield _joined(plane, parts)


@dataclass(frozen=True, slots=True)
class _Seams:
    """Pieces of polygon borders that lie on the edge of a block: from ``low`` to ``high`` on the line ``at``.

    ``vertical`` is the direction of the line and ``after`` whether the polygon lies right of or below it.
    """

    vertical: NDArray[np.bool_]
    after: NDArray[np.bool_]
    at: Index
    low: Index
    high: Index
    owner: Index


def _seams(polygons: Polygons, window: Window) -> _Seams:
    rings = Rings.of(polygons.geometry)
    edges = rings.edges()
    a, b = rings.coords[edges].astype(np.int64), rings.coords[edges + 1].astype(np.int64)
    pieces = []
    lines = ((0, window.x0, True), (0, window.x1, False), (1, window.y0, True), (1, window.y1, False))
    for axis, at, after in lines:
        on = np.flatnonzero((a[:, axis] == at) & (b[:, axis] == at))
        p, q = a[on, 1 - axis], b[on, 1 - axis]
        flags = np.full(len(on), axis == 0), np.full(len(on), after), np.full(len(on), at)
        pieces.append((*flags, np.minimum(p, q), np.maximum(p, q), rings.owner(edges[on])))
    return _Seams(*(np.concatenate(c) for c in zip(*pieces, strict=True)))


def _joined(plane: Plane, parts: list[tuple[str, Polygons, _Seams]]) -> Features:
    """Features of the polygons that touch edges of blocks."""
    names = [name for name, _, _ in parts]
    counts = [len(p) for _, p, _ in parts]
    base = np.cumsum(counts) - counts
    polygons = concatenated([p for _, p, _ in parts])
    seams = concatenated([replace(s, owner=s.owner + b) for (_, _, s), b in zip(parts, base, strict=True)])
    geometry, value, owner = polygons.geometry, polygons.value, seams.owner
    line = np.column_stack([seams.vertical, seams.at, value[owner]])
    pairs = _touching(np.unique(line, axis=0, return_inverse=True)[1].ravel(), seams.low, seams.high, seams.after)
    n = len(value)
    graph = coo_array((np.ones(pairs.shape[1], np.int8), (owner[pairs[0]], owner[pairs[1]])), shape=(n, n))
    count, group = connected_components(graph, directed=False)

    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(count))
    members = np.split(order, starts[1:])
    whole = geometry[order[starts]]
    several = np.flatnonzero(np.bincount(group, minlength=count) > 1)
    if len(several):
        matched = share_vertices(geometry)  # borders then match edge by edge, and a union need not search crossings
        unions = [shapely.coverage_union_all(matched[members[k]]) for k in several]
        whole[several] = straighten(shapely.get_geometry(unions, 0))
    block = np.repeat(np.array(names, object), counts)
    total = Polygons(
        whole,
        value[order[starts]],
        np.add.reduceat(polygons.pixels[order], starts),
        np.add.reduceat(polygons.confidence_sum[order], starts),
        np.add.reduceat(polygons.outside[order], starts),
    )
    return _features(plane, total, _tuples([tuple(sorted(set(block[m]))) for m in members]))


def _touching(line: Index, low: Index, high: Index, after: NDArray[np.bool_]) -> Index:
    """Pairs (2, n) of pieces on the two sides of a line that share more than a point."""
    origin = low.min()
    size = high.max() - origin + 1
    from_, to = line * size + low - origin, line * size + high - origin
    left, right = np.flatnonzero(~after), np.flatnonzero(after)
    # on one side of a line pieces of one class never overlap, so both of their ends are in order
    right = right[np.argsort(from_[right])]
    first = np.searchsorted(to[right], from_[left], "right")
    last = np.searchsorted(from_[right], to[left], "left")
    count = np.maximum(last - first, 0)
    rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([np.repeat(left, count), right[np.repeat(first, count) + rank]])


def _features(plane: Plane, polygons: Polygons, blocks: NDArray[np.object_]) -> Features:
    coords, owner = shapely.get_coordinates(polygons.geometry, return_index=True)
    x, y = coords.T.astype(np.int64)
    starts = np.searchsorted(owner, np.arange(len(polygons)))
    row = np.minimum.reduceat(y, starts)
    col = np.minimum.reduceat(np.where(y == row[owner], x, np.iinfo(np.int64).max), starts)
    mean = polygons.confidence_sum / polygons.pixels
    outside = polygons.outside / polygons.pixels
    return Features(plane, polygons.geometry, polygons.value, polygons.pixels, mean, outside, row, col, blocks)


def _tuples(values: list[tuple[str, ...]]) -> NDArray[np.object_]:
    """An object array of tuples; numpy would make a table of them."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
