"""Polygons of blocks joined to whole features, row by row of blocks.

What a block cuts apart is put together again exactly: coordinates are whole pixels, so borders either meet or do not.
The outcome is what polygonising the whole plane at once would give, for any block size. Polygons that touch no edge of
their block are whole as they are; of the others only those that go on below the last row of blocks are held.

Neighbours fit without gaps after a projection only if every vertex on a border is there on both of its sides. Inside of
a block `shared` sees to that; on the edges of blocks a vertex is where not the same two classes meet on both sides of
it, which the classes of the four pixels around it tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane
from geoml.vector.polygons import Columns, Features, Polygons, concatenated
from geoml.vector.rings import Rings, share_vertices
from geoml.vector.stitch import stitch

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


def shared(block: Block, polygons: Polygons) -> Polygons:
    """Polygons of a block with the vertices of their neighbours in it on their borders.

    Takes them as ``polygonise`` gives them for the window of the block or a part of it. Raises InputError for polygons
    outside of it.
    """
    w = block.window
    x0, y0, x1, y1 = polygons.rings.bounds().T
    if len(polygons) and (x0.min() < w.x0 or y0.min() < w.y0 or x1.max() > w.x1 or y1.max() > w.y1):
        raise InputError(f"polygons: not inside block {block.id}; expected pixel coordinates of the plane")
    return replace(polygons, rings=share_vertices(polygons.rings))


def split(block: Block, polygons: Polygons) -> tuple[Features, Polygons]:
    """(features that touch no edge of the block, the others), of what `shared` gives."""
    w = block.window
    x0, y0, x1, y1 = polygons.rings.bounds().T
    touches = (x0 == w.x0) | (y0 == w.y0) | (x1 == w.x1) | (y1 == w.y1)
    inner = polygons.take(~touches)
    return _features(block.plane, inner, [(block.id,)] * len(inner)), polygons.take(touches)


def merged(parts: Iterable[tuple[Block, Polygons]]) -> Iterator[Features]:
    """Whole features of the polygons on the edges of blocks, as `split` gives them, in batches as they are complete.

    Blocks come plane by plane and row by row, as a plan has them, some may be missing. What is held at once are the
    polygons of one row of blocks and those that go on below it. Raises InputError for another order or a block that
    came before, and for more than one block size on a plane.
    """
    planes: set[Plane] = set()
    for plane, of_plane in groupby(parts, key=lambda part: part[0].plane):
        if plane in planes:
            raise InputError(f"blocks: {plane.code} came before; expected them plane by plane")
        planes.add(plane)
        seams: _Seams | None = None
        for iy, row in groupby(of_plane, key=lambda part: part[0].iy):
            blocks = list(row)
            seams = seams or _Seams(plane, blocks[0][0].size)
            yield from seams.add(iy, blocks)
        if seams:
            yield from seams.end()


@dataclass(frozen=True, slots=True)
class _Pieces(Columns):
    """Polygons with the block of each."""

    value: NDArray[np.uint8]
    rings: Rings
    pixels: Index
    confidence_sum: NDArray[np.float64]
    outside: NDArray[np.float64]
    block: NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class _Sides(Columns):
    """Stretches of borders on lines between blocks: from ``low`` to ``high`` on the line ``at``, by piece ``owner``.

    ``after`` says whether the piece lies right of or below the line.
    """

    value: NDArray[np.uint8]
    after: Mask
    at: Index
    low: Index
    high: Index
    owner: Index


@dataclass(slots=True)
class _Held:
    """A feature that goes on below the last row: its pieces, and (x, y) of vertices on edges that it shares."""

    pieces: list[_Pieces]
    points: list[Index]


class _Seams:
    """The rows of blocks of one plane."""

    def __init__(self, plane: Plane, size: int) -> None:
        self.plane, self.size = plane, size
        self.last: int | None = None
        self.held: list[_Held] = []
        self.below: _Sides | None = None
        """Stretches on the lower edge of the last row; owners are numbers of `held`."""

    @property
    def count(self) -> int:
        """Pieces that are held."""
        return sum(len(p) for h in self.held for p in h.pieces)

    def add(self, iy: int, row: list[tuple[Block, Polygons]]) -> Iterator[Features]:
        """Take a row of blocks; gives what is complete."""
        self._check(iy, row)
        if self.last is not None and iy != self.last + 1:
            yield from self.end()
        self.last = iy
        row = [(block, polygons) for block, polygons in row if len(polygons)]
        if not row:
            yield from self.end()
            return
        pieces = concatenated([_pieces(block, polygons) for block, polygons in row])
        n, m = len(pieces), len(self.held)
        top, bottom = iy * self.size, (iy + 1) * self.size
        upright, level = _sides(pieces.rings, pieces.value, self.size)
        on_top = level.take((level.at == top) & level.after)
        if self.below is not None:
            above = self.below.take(np.arange(len(self.below)))
            above = _Sides(above.value, above.after, above.at, above.low, above.high, above.owner + n)
            on_top = concatenated([above, on_top])
        pairs = np.concatenate([_touching(upright), _touching(on_top)], axis=1)
        graph = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(n + m, n + m))
        count, group = connected_components(graph, directed=False)
        points = _vertices(upright, vertical=True)
        points = points[:, (points[2] != top) & (points[2] != bottom)]  # those of corners lie on the level lines too
        if self.below is not None:
            points = np.concatenate([points, _vertices(on_top, vertical=False)], axis=1)
        goes_on = level.take((level.at == bottom) & ~level.after)
        open_ = np.zeros(count, bool)
        open_[group[goes_on.owner]] = True
        yield from self._regroup(pieces, group, points, open_)
        number = np.cumsum(open_) - 1
        owner = number[group[goes_on.owner]]
        self.below = _Sides(goes_on.value, goes_on.after, goes_on.at, goes_on.low, goes_on.high, owner)

    def end(self) -> Iterator[Features]:
        """What is held: nothing is to come below it."""
        held, self.held, self.below = self.held, [], None
        if held:
            yield self._whole([p for h in held for p in h.pieces], *_labelled(held))

    def _check(self, iy: int, row: list[tuple[Block, Polygons]]) -> None:
        if other := {b.size for b, _ in row} - {self.size}:
            raise InputError(f"block_size: {other.pop()} on a plane with blocks of {self.size} pixels")
        if self.last is not None and iy <= self.last:
            raise InputError(f"blocks: row {iy} after row {self.last}; expected them row by row")
        seen = [b.id for b, _ in row]
        if len(set(seen)) < len(seen):
            raise InputError(f"block: {max(seen, key=seen.count)} came before")

    def _regroup(self, pieces: _Pieces, group: Index, points: Index, open_: Mask) -> Iterator[Features]:
        """Put new pieces and shared points to the features that they belong to; gives those that do not go on."""
        n, held = len(pieces), self.held
        mine, owner = group[:n], group[n:]
        point_group = group[points[0]]
        kept: dict[int, _Held] = {}
        for old, now in zip(held, owner.tolist(), strict=True):  # the larger list takes the smaller one
            found = kept.get(now)
            if found is None or len(found.pieces) < len(old.pieces):
                kept[now], found, old = old, old, found or _Held([], [])
            found.pieces += old.pieces
            found.points += old.points
        fresh = np.flatnonzero(open_[mine])
        for k, rows in _each(mine[fresh], fresh):
            kept.setdefault(k, _Held([], [])).pieces.append(pieces.take(rows))
        fresh = np.flatnonzero(open_[point_group])
        for k, columns in _each(point_group[fresh], fresh):
            kept[k].points.append(points[1:, columns])
        done = [(k, h) for k, h in kept.items() if not open_[k]]
        self.held = [kept[k] for k in np.flatnonzero(open_).tolist()]
        alone, here = ~open_[mine], ~open_[point_group]
        if done or alone.any():
            label, at = _labelled([h for _, h in done])
            number = np.array([k for k, _ in done], np.int64)
            yield self._whole(
                [p for _, h in done for p in h.pieces] + [pieces.take(alone)],
                np.concatenate([number[label], mine[alone]]),
                np.concatenate([np.stack([number[at[0]], *at[1:]]), [point_group[here], *points[1:, here]]], axis=1),
            )

    def _whole(self, parts: list[_Pieces], group: Index, points: Index) -> Features:
        """One feature for each group of pieces."""
        names, group = np.unique(group, return_inverse=True)
        points = np.stack([np.searchsorted(names, points[0]), *points[1:]])
        pieces = concatenated(parts)
        order = np.argsort(group, kind="stable")
        starts = np.searchsorted(group[order], np.arange(len(names)))
        size = np.diff(np.append(starts, len(group)))
        several = size > 1
        # what is alone and shares no vertex on an edge is whole already
        touched = several.copy()
        touched[points[0]] = True
        rings = pieces.rings.take(order[starts[~touched]])
        if touched.any():
            rank = np.cumsum(touched) - 1
            some = touched[group]
            kept = rank[points[0]], points[1], points[2]
            made = stitch(pieces.rings.take(some), rank[group[some]], self.size, kept)
            place = np.argsort(np.argsort(touched, kind="stable"), kind="stable")
            rings = Rings.joined([rings, made]).take(place)
        sums = (np.add.reduceat(c[order], starts) for c in (pieces.pixels, pieces.confidence_sum, pieces.outside))
        blocks = np.split(pieces.block[order], starts[1:])
        total = Polygons(rings, pieces.value[order[starts]], *sums)
        return _features(self.plane, total, [tuple(sorted(set(b.tolist()))) for b in blocks])


def _pieces(block: Block, polygons: Polygons) -> _Pieces:
    name = np.full(len(polygons), block.id, object)
    p = polygons
    return _Pieces(p.value, p.rings, p.pixels, p.confidence_sum, p.outside, name)


def _sides(rings: Rings, value: NDArray[np.uint8], size: int) -> tuple[_Sides, _Sides]:
    """Stretches on vertical and on level lines, one for each edge of a ring."""
    start = rings.edges()
    a, b = rings.coords[start].astype(np.int64), rings.coords[start + 1].astype(np.int64)
    found = []
    for axis in (0, 1):
        on = np.flatnonzero((a[:, axis] == b[:, axis]) & (a[:, axis] % size == 0))
        p, q, owner = a[on, 1 - axis], b[on, 1 - axis], rings.owner(start[on])
        # with the region on the right hand, y downwards, what lies right of a line goes up, what lies below goes east
        after = p > q if axis == 0 else p < q
        found.append(_Sides(value[owner], after, a[on, axis], np.minimum(p, q), np.maximum(p, q), owner))
    return found[0], found[1]


def _touching(sides: _Sides) -> Index:
    """Pairs (2, k) of owners of one class on the two sides of a line that share more than a point."""
    if not len(sides):
        return np.empty((2, 0), np.int64)
    line = np.unique(np.column_stack([sides.at, sides.value]), axis=0, return_inverse=True)[1].ravel()
    origin = sides.low.min()
    size = sides.high.max() - origin + 1
    from_, to = line * size + sides.low - origin, line * size + sides.high - origin
    left, right = np.flatnonzero(~sides.after), np.flatnonzero(sides.after)
    # on one side of a line stretches of one class never overlap, so both of their ends are in order
    right = right[np.argsort(from_[right])]
    first = np.searchsorted(to[right], from_[left], "right")
    last = np.searchsorted(from_[right], to[left], "left")
    count = np.maximum(last - first, 0)
    rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.stack([sides.owner[np.repeat(left, count)], sides.owner[right[np.repeat(first, count) + rank]]])


def _vertices(sides: _Sides, *, vertical: bool) -> Index:
    """(owner, x, y) of places on lines, for each piece around them, where some polygon has a corner."""
    if not len(sides):
        return np.empty((3, 0), np.int64)
    origin = sides.low.min()
    span = sides.high.max() - origin + 1
    lines, line = np.unique(sides.at, return_inverse=True)
    from_, to = line * span + sides.low - origin, line * span + sides.high - origin
    place = np.unique(np.concatenate([from_, to]))
    around = []
    for after in (False, True):
        mine = np.flatnonzero(sides.after == after)
        mine = mine[np.argsort(from_[mine])]
        for k in (np.searchsorted(to[mine], place, "left"), np.searchsorted(from_[mine], place, "right") - 1):
            # the first stretch that ends here or later, the last one that begins here or before
            known = (k >= 0) & (k < len(mine))
            pick = mine[np.clip(k, 0, max(len(mine) - 1, 0))] if len(mine) else np.zeros(len(place), np.int64)
            known &= (from_[pick] <= place) & (to[pick] >= place)
            around.append((known, pick))
    # a stretch that only begins here does not lie before it, nor does one that only ends here lie after it
    owner, value = [], []
    for side, (known, pick) in enumerate(around):
        known = known & ((from_[pick] < place) if side % 2 == 0 else (to[pick] > place))
        owner.append(np.where(known, sides.owner[pick], -1))
        value.append(np.where(known, sides.value[pick].astype(np.int64), -1))
    a, b, c, d = value
    mine = ~(((a == b) & (c == d)) | ((a == c) & (b == d)))
    at, along = lines[place[mine] // span], place[mine] % span + origin
    owners = np.concatenate([o[mine] for o in owner])
    x, y = (np.tile(v, 4) for v in ((at, along) if vertical else (along, at)))
    return np.stack([owners, x, y])[:, owners >= 0]


def _each(group: Index, rows: Index) -> Iterator[tuple[int, Index]]:
    """Each group with its rows."""
    order = np.argsort(group, kind="stable")
    names, starts = np.unique(group[order], return_index=True)
    yield from zip(names.tolist(), np.split(rows[order], starts[1:]), strict=True) if len(names) else ()


def _labelled(held: list[_Held]) -> tuple[Index, Index]:
    """Number of the feature of each piece, and (feature, x, y) of the points."""
    none = np.empty(0, np.int64)
    label = [np.full(len(p), k) for k, h in enumerate(held) for p in h.pieces]
    points = [np.stack([np.full(p.shape[1], k), *p]) for k, h in enumerate(held) for p in h.points]
    return np.concatenate([none, *label]), np.concatenate([np.empty((3, 0), np.int64), *points], axis=1)


def _features(plane: Plane, polygons: Polygons, blocks: list[tuple[str, ...]]) -> Features:
    rings = polygons.rings
    x, y = rings.coords.T.astype(np.int64)
    starts = rings.ring_offsets[rings.polygon_offsets[:-1]]
    count = np.diff(np.append(starts, len(x)))
    row = np.minimum.reduceat(y, starts) if len(polygons) else y
    below = np.where(y == np.repeat(row, count), x, np.iinfo(np.int64).max)
    col = np.minimum.reduceat(below, starts) if len(polygons) else x
    named = np.empty(len(blocks), object)  # numpy would make a table of tuples
    named[:] = blocks
    p = polygons
    return Features(plane, p.rings, p.value, p.pixels, p.confidence_sum, p.outside, row, col, named)
