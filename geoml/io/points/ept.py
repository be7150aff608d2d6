"""EPT (Entwine Point Tile 1.0): a document, pages of a hierarchy and one LAZ file for each node of an octree.

Names of files are made here from the keys of nodes: nothing in the documents can lead elsewhere.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from geoml.errors import DataError
from geoml.io.points.files import JSON, WHOLE, MemoryBytes, PointBytes, PointPlace, using_points
from geoml.io.points.georeference import Stated, stated
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.kept import Decoded, kept_nodes
from geoml.io.points.laz import MAX_CHUNK_BYTES, raw_parts
from geoml.io.points.octree import ROOT, NodeKey, Octree, Square, checked_key
from geoml.io.points.records import Points, decoded
from geoml.io.stores.signed import join_url

MAX_JSON = 2**26
"""Bytes of a document or a page of the hierarchy."""

AT_ONCE = 8
"""Files in flight."""

KEPT = 64
"""Documents that this process keeps."""

MAX_TILE = 2**28
EDGE = 0.1
"""Units by which points of a node may lie beyond its cube, by rounding."""

_KEY = re.compile(r"(\d{1,2})-(\d{1,10})-(\d{1,10})-(\d{1,10})")

Node = tuple[NodeKey, int]
"""A node and its count of points."""


@dataclass(frozen=True)
class EptDocument:
    """Contents of ``ept.json``."""

    count: int
    bounds: tuple[float, float, float, float]
    """left, bottom, right, top of the points, in units of the file."""
    stated: Stated
    corner: tuple[float, float]
    side: float


def read_document(file: PointBytes) -> EptDocument:
    """The checked document. Raises DataError for one that lies, and for tiles that are not LAZ."""
    said = _json(file)
    kind, hierarchy = said.get("dataType"), said.get("hierarchyType", "json")
    if kind != "laszip" or hierarchy != "json":
        raise DataError(
            f"an EPT with tiles of {str(kind)[:40]!r} and a hierarchy of {str(hierarchy)[:40]!r}; expected"
            " laszip and json"
        )
    cube, real = _six(said, "bounds"), _six(said, "boundsConforming")
    count = said.get("points")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**63:
        raise DataError(f"an EPT of {str(count)[:40]!r} points")
    if len({round((cube[n + 3] - cube[n]) / max(cube[3] - cube[0], 1e-9), 6) for n in range(3)}) > 1:
        raise DataError(f"an EPT whose bounds {cube} are not a cube")
    corner, side = (cube[0], cube[1]), cube[3] - cube[0]
    return EptDocument(count, (real[0], real[1], real[3], real[4]), _srs(said.get("srs")), corner, side)


def read_tiles(place: PointPlace, file: PointBytes, window: Square) -> Iterator[tuple[LasHeader, Points]]:
    """Points of the nodes that touch a window in units of the file; some of them lie beyond it.

    Raises DataError for a hierarchy or tiles that lie.
    """
    said, tree, lock = kept_document(place, file)
    with lock:
        nodes = tree.touching(window, EDGE, partial(_pages, place), lambda e: isinstance(e, NodeKey))
        tree.check_sum((count for _, count in tree.nodes.values()), said.count)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(partial(_node, place, file.version), sorted(n for n in nodes if n[1]))


def _node(place: PointPlace, version: tuple[int, str], node: Node) -> Decoded:
    key, count = node
    if (known := kept_nodes.get((place, version, key))) is None:
        tile = _beside(place, f"ept-data/{_name(key)}.laz")
        known = using_points(tile, partial(_tile, count=count), head=WHOLE)
        kept_nodes.add((place, version, key), known)
    return known


KeptDocument = tuple[EptDocument, Octree[Node, NodeKey], threading.Lock]
_files: OrderedDict[tuple[PointPlace, tuple[int, str]], KeptDocument] = OrderedDict()
_files_lock = threading.Lock()


def kept_document(place: PointPlace, file: PointBytes) -> KeptDocument:
    """The document and what was read of its hierarchy; those of the files that were used last are kept."""
    with _files_lock:
        known = _files.get((place, file.version))
    if known is None:
        said = read_document(file)
        tree: Octree[Node, NodeKey] = Octree(said.corner, said.side)
        tree.pages[ROOT] = ROOT
        known = said, tree, threading.Lock()
        with _files_lock:
            _files[place, file.version] = known
            while len(_files) > KEPT:
                _files.popitem(last=False)
    return known


def _pages(place: PointPlace, pages: Sequence[NodeKey]) -> list[dict[NodeKey, Node | NodeKey]]:
    places = [_beside(place, f"ept-hierarchy/{_name(page)}.json") for page in pages]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda p: using_points(p, _entries, JSON, WHOLE), places))


def _entries(file: PointBytes) -> dict[NodeKey, Node | NodeKey]:
    found: dict[NodeKey, Node | NodeKey] = {}
    for name, count in _json(file).items():
        parts = _KEY.fullmatch(name)
        if parts is None or isinstance(count, bool) or not isinstance(count, int) or not -1 <= count < 2**31:
            raise DataError(f"its hierarchy has {name[:60]!r}: {str(count)[:40]}; expected D-X-Y-Z and a count")
        key = checked_key(*(int(v) for v in parts.groups()))
        found[key] = key if count == -1 else (key, count)
    return found


def _tile(file: PointBytes, count: int) -> Decoded:
    header = read_header(file)
    if header.count != count:
        raise DataError(f"has {header.count} points, its hierarchy says {count}")
    if file.size > MAX_TILE or count * header.record_bytes > MAX_CHUNK_BYTES:
        raise DataError(f"{count} points in {file.size} bytes are too many for one node")
    content = MemoryBytes(file.read(0, file.size))
    raw = b"".join(bytes(part) for part in raw_parts(content, header))
    return header, decoded(raw, header.format, header.record_bytes)


def _beside(place: PointPlace, name: str) -> PointPlace:
    """A file in the folder of the document."""
    path, mark, query = place.href.partition("?")
    return replace(place, href=join_url(f"{path.rpartition('/')[0]}{mark}{query}", name))


def _name(key: NodeKey) -> str:
    return "-".join(map(str, key))


def _json(file: PointBytes) -> dict[str, Any]:
    if file.size > MAX_JSON:
        raise DataError(f"a document of {file.size} bytes; at most {MAX_JSON} are read")
    try:
        said = json.loads(file.read(0, file.size))
    except (ValueError, RecursionError) as err:
        raise DataError("no JSON document") from err
    if not isinstance(said, dict):
        raise DataError("a JSON document that is not an object")
    return said


def _six(said: Mapping[str, Any], name: str) -> Sequence[float]:
    box = said.get(name)
    numbers = (
        isinstance(box, list)
        and len(box) == 6
        and all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e12 for v in box)
    )
    if not numbers or any(box[n] > box[n + 3] for n in range(3)):  # type: ignore[index]
        raise DataError(f"an EPT with {name} {str(box)[:80]}; expected six numbers")
    return [float(v) for v in box]  # type: ignore[union-attr]


def _srs(srs: object) -> Stated:
    """What the document says of its CRS: the WKT, else codes."""
    if not isinstance(srs, dict):
        return Stated()
    if isinstance(srs.get("wkt"), str) and (found := stated(srs["wkt"])).crs is not None:
        return found
    codes = [str(srs[name]) for name in ("horizontal", "vertical") if srs.get(name)]
    return stated(f"{srs.get('authority', 'EPSG')}:{'+'.join(codes)}") if codes and srs.get("horizontal") else Stated()
