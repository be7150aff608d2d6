"""An octree of points, as COPC and EPT have it: which nodes touch a window, found level by level.

A node holds points of its level only, so all levels are read; its points end at the edge of its cube, give or take a
step of the integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from geoml.errors import DataError

N = TypeVar("N")
P = TypeVar("P")

MAX_LEVEL = 30
MAX_NODES = 2**22
"""Nodes that are kept of one file."""

Square = tuple[float, float, float, float]


class NodeKey(NamedTuple):
    """A node: its level, and its place among the 2**level of each axis."""

    level: int
    x: int
    y: int
    z: int

    def children(self) -> list[NodeKey]:
        """The eight below it."""
        low = (2 * self.x, 2 * self.y, 2 * self.z)
        return [
            NodeKey(self.level + 1, low[0] + i, low[1] + j, low[2] + k) for i in (0, 1) for j in (0, 1) for k in (0, 1)
        ]


ROOT = NodeKey(0, 0, 0, 0)


def checked_key(level: int, x: int, y: int, z: int) -> NodeKey:
    """A key of the tree. Raises DataError for one that lies outside of it."""
    if not 0 <= level <= MAX_LEVEL or not all(0 <= v < 2**level for v in (x, y, z)):
        raise DataError(f"its hierarchy has a node {level}-{x}-{y}-{z}, which is none")
    return NodeKey(level, x, y, z)


@dataclass
class Octree(Generic[N, P]):
    """What was read of a hierarchy: ``nodes`` with points, and ``pages`` of it that were not read yet, by their key."""

    corner: tuple[float, float]
    """Least x and y of the cube, in units of the file."""
    side: float
    nodes: dict[NodeKey, N] = field(default_factory=dict)
    pages: dict[NodeKey, P] = field(default_factory=dict)
    seen: set[P] = field(default_factory=set)
    summed: bool = False

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.corner)) or not 0 < self.side <= 1e12:
            raise DataError(f"its octree has corner {self.corner} and side {self.side}")

    def touching(
        self,
        window: Square,
        step: float,
        fetch: Callable[[Sequence[P]], Sequence[Mapping[NodeKey, N | P]]],
        is_page: Callable[[N | P], bool],
    ) -> list[N]:
        """Nodes whose cube, ``step`` wider, meets the ``window`` in units of the file.

        ``fetch`` reads pages, all of a level at once. Raises DataError for a hierarchy that leads to itself.
        """
        found, level = [], [ROOT]
        while level:
            here = [key for key in level if self._meets(key, window, step)]
            self.load([key for key in here if key in self.pages], fetch, is_page)
            inner = [key for key in here if key in self.nodes]
            found += [self.nodes[key] for key in inner]
            level = [child for key in inner for child in key.children() if child in self.nodes or child in self.pages]
        return found

    def check_sum(self, counts: Iterable[int], said: int) -> None:
        """Raises DataError if all pages are read and their nodes do not have as many points as the file says."""
        if self.pages or self.summed:
            return
        if (count := sum(counts)) != said:
            raise DataError(f"its hierarchy has {count} points, its header says {said}")
        self.summed = True

    def _meets(self, key: NodeKey, window: Square, step: float) -> bool:
        side = self.side / (1 << key.level)
        left, bottom = self.corner[0] + key.x * side, self.corner[1] + key.y * side
        return (
            left - step <= window[2]
            and window[0] <= left + side + step
            and bottom - step <= window[3]
            and window[1] <= bottom + side + step
        )

    def load(
        self,
        keys: Sequence[NodeKey],
        fetch: Callable[[Sequence[P]], Sequence[Mapping[NodeKey, N | P]]],
        is_page: Callable[[N | P], bool],
    ) -> None:
        """Read the pages of these keys, and those that they are only links to.

        A page that could not be read, or that lies, stays among those to read: the next window fails as this one does,
        or finds it.
        """
        while keys:
            pages = [self.pages[key] for key in keys]
            if any(page in self.seen for page in pages) or len(set(pages)) < len(pages):
                raise DataError("a page of its hierarchy leads to itself")
            fetched = list(zip(keys, fetch(pages), strict=True))
            for key, entries in fetched:
                self._check(key, entries)
            self.seen.update(self.pages.pop(key) for key in keys)
            for _, entries in fetched:
                for below, entry in entries.items():
                    if is_page(entry):
                        self.pages[below] = entry  # type: ignore[assignment]
                    else:
                        self.nodes.setdefault(below, entry)  # type: ignore[arg-type]
            keys = [key for key in keys if key in self.pages]

    def _check(self, page: NodeKey, entries: Mapping[NodeKey, N | P]) -> None:
        for key in entries:
            below = key.level - page.level
            if below < 0 or (key.x >> below, key.y >> below, key.z >> below) != page[1:]:
                raise DataError(f"a page of its hierarchy for {page} has {key}, which lies elsewhere")
        if len(self.nodes) + len(entries) > MAX_NODES:
            raise DataError(f"its hierarchy has more than {MAX_NODES} nodes")
