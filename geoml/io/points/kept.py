"""Decoded nodes that this process keeps, so that windows beside each other read what they share once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import fields

from geoml.io.points.header import LasHeader
from geoml.io.points.records import Points

LARGEST = 64 * 2**20
"""Bytes of points that are kept."""

Decoded = tuple[LasHeader, Points]


class KeptNodes:
    """The nodes that were used last, within a bound of bytes; for all threads."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest, self._bytes = largest, 0
        self._nodes: OrderedDict[Hashable, Decoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Decoded | None:
        with self._lock:
            if (found := self._nodes.get(key)) is not None:
                self._nodes.move_to_end(key)
            return found

    def add(self, key: Hashable, node: Decoded) -> None:
        with self._lock:
            if key in self._nodes or _bytes(node) > self._largest // 4:
                return
            self._nodes[key] = node
            self._bytes += _bytes(node)
            while self._bytes > self._largest:
                self._bytes -= _bytes(self._nodes.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._nodes.clear()
            self._bytes = 0


def _bytes(node: Decoded) -> int:
    return sum(getattr(node[1], f.name).nbytes for f in fields(Points))


kept_nodes = KeptNodes()
