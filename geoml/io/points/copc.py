"""COPC: a LAZ 1.4 file whose chunks are the nodes of an octree (COPC specification 1.0, copc.io).

Of a file elsewhere the header, the pages of the hierarchy that a window touches and its nodes are read; header and
pages are kept, so that the next window costs its nodes only.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from geoml.errors import DataError
from geoml.io.points.files import HEAD, PointBytes, PointPlace
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.kept import kept_nodes
from geoml.io.points.laz import Chunk, check_count, check_size, decompressed, groups, laszip_record
from geoml.io.points.octree import ROOT, NodeKey, Octree, Square, checked_key
from geoml.io.points.records import Points, decoded
from geoml.io.stores.ranges import gaps_read

KEPT = 64
"""Files whose header and hierarchy this process keeps."""

BATCH = 2**25
"""Bytes of chunks that are decoded at once."""

MAX_PAGE = 2**26
_ENTRY = struct.Struct("<4iQii")


@dataclass(frozen=True)
class HierarchyPage:
    """Where a page lies in the file."""

    start: int
    size: int


@dataclass(frozen=True)
class CopcFile:
    """What is kept of a file."""

    header: LasHeader
    laszip: bytes
    tree: Octree[Chunk, HierarchyPage]
    spare: int
    """Bytes that a window may cost besides, for fewer requests: as many as the first page has, which is read once."""
    lock: threading.Lock


class KeptFiles:
    """Headers and hierarchies of the files that were used last, for all threads."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[PointPlace, tuple[int, str]], CopcFile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: PointPlace, file: PointBytes, header: LasHeader | None = None) -> CopcFile:
        with self._lock:
            if (kept := self._files.get((place, file.version))) is not None:
                return kept
        opened = _opened(file, header or read_header(file))
        with self._lock:
            self._files[place, file.version] = opened
            while len(self._files) > KEPT:
                self._files.popitem(last=False)
        return opened

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._files.clear()


kept_files = KeptFiles()


def is_copc(file: PointBytes, place: PointPlace, header: LasHeader) -> bool:
    """Whether the header has the record that makes a LAZ file a COPC; then it is kept for the windows to come."""
    if header.record("copc", 1) is None:
        return False
    kept_files.get(place, file, header)
    return True


def read_nodes(file: PointBytes, place: PointPlace, window: Square) -> Iterator[tuple[LasHeader, Points]]:
    """Points of the nodes that touch a window in units of the file; some of them lie beyond it.

    Raises DataError for a hierarchy or chunks that lie.
    """
    kept = kept_files.get(place, file)
    spare = kept.spare

    def fetch(pages: Sequence[HierarchyPage]) -> list[dict[NodeKey, Chunk | HierarchyPage]]:
        nonlocal spare
        before = spare
        spare -= gaps_read([(p.start, p.start + p.size) for p in pages], spare)
        return _pages(file, kept.header, pages, before)

    with kept.lock:
        nodes = kept.tree.touching(window, max(kept.header.scales), fetch, _is_page)
        kept.tree.check_sum((n.count for n in kept.tree.nodes.values()), kept.header.count)
    known = {n: kept_nodes.get((place, file.version, n.start)) for n in nodes if n.count}
    yield from (node for node in known.values() if node is not None)
    missing = sorted((n for n, node in known.items() if node is None), key=lambda n: n.start)
    for group in groups(missing, kept.header.record_bytes, BATCH):
        for chunk, points in zip(group, _decoded(file, kept, group, spare), strict=True):
            kept_nodes.add((place, file.version, chunk.start), (kept.header, points))
            yield kept.header, points


def _decoded(file: PointBytes, kept: CopcFile, nodes: Sequence[Chunk], spare: int) -> Iterator[Points]:
    """The points of each node."""
    bodies = file.read_all([(n.start, n.start + n.size) for n in nodes], spare)
    for node, body in zip(nodes, bodies, strict=True):
        check_count(kept.header, node, body)
    raw = decompressed(kept.header, kept.laszip, [(body, n.count) for body, n in zip(bodies, nodes, strict=True)])
    at = 0
    for node in nodes:
        size = node.count * kept.header.record_bytes
        yield decoded(raw[at : at + size], kept.header.format, kept.header.record_bytes)
        at += size


def _opened(file: PointBytes, header: LasHeader) -> CopcFile:
    info = header.record("copc", 1) or b""
    if len(info) < 72 or not header.compressed or header.format not in (6, 7, 8):
        raise DataError("a COPC without its information, or of a point format that COPC does not have")
    x, y, _z, half, _spacing, start, size = struct.unpack_from("<5d2Q", info)
    tree: Octree[Chunk, HierarchyPage] = Octree((x - half, y - half), 2 * half)
    tree.pages[ROOT] = _page(file, start, size)
    tree.load([ROOT], lambda pages: _pages(file, header, pages), _is_page)
    return CopcFile(header, laszip_record(header), tree, max(0, size - max(0, HEAD - header.start)), threading.Lock())


def _page(file: PointBytes, start: int, size: int) -> HierarchyPage:
    if not 0 < size <= MAX_PAGE or size % _ENTRY.size or start + size > file.size:
        raise DataError(f"a page of its hierarchy has {size} bytes at byte {start} of a file of {file.size}")
    return HierarchyPage(start, size)


def _is_page(entry: Chunk | HierarchyPage) -> bool:
    return isinstance(entry, HierarchyPage)


def _pages(
    file: PointBytes, header: LasHeader, pages: Sequence[HierarchyPage], spare: int = 0
) -> list[dict[NodeKey, Chunk | HierarchyPage]]:
    bodies = file.read_all([(p.start, p.start + p.size) for p in pages], spare)
    return [_entries(file, header, body) for body in bodies]


def _entries(file: PointBytes, header: LasHeader, body: bytes) -> dict[NodeKey, Chunk | HierarchyPage]:
    found: dict[NodeKey, Chunk | HierarchyPage] = {}
    for level, x, y, z, start, size, count in _ENTRY.iter_unpack(body):
        key = checked_key(level, x, y, z)
        if count == -1:
            found[key] = _page(file, start, size)
        elif count == 0:
            found[key] = Chunk(0, 0, 0)
        else:
            found[key] = _chunk(file, header, key, Chunk(start, size, count))
    return found


def _chunk(file: PointBytes, header: LasHeader, key: NodeKey, chunk: Chunk) -> Chunk:
    least = header.record_bytes + 4
    inside = header.start <= chunk.start <= file.size - chunk.size
    if not 0 < chunk.count <= header.count or chunk.size < least or not inside:
        raise DataError(
            f"node {key} has {chunk.count} points in {chunk.size} bytes from byte {chunk.start}, which lies"
        )
    check_size(header, chunk.count, f"node {key}")
    return chunk
