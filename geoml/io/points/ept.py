"""EPT (Entwine Point Tile 1.0): a document, pages of a hierarchy and one LAZ file for each node of an octree.

Names of files are made here from the keys of nodes: nothing in the documents can lead elsewhere.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import PurePosixPath
from typing import Any

from geoml.errors import DataError
from geoml.io.points.files import JSON, PointBytes, PointPlace, using_points
from geoml.io.points.georeference import Stated, stated
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.kept import kept_nodes
from geoml.io.points.laz import MAX_CHUNK_BYTES, raw_parts
from geoml.io.points.octree import ROOT, NodeKey, Octree, Square, checked_key
from geoml.io.points.records import Points, decoded
from geoml.io.stores.signed import join_url

MAX_JSON = 2**26
"""Bytes of a document or a page of the hierarchy."""

MAX_TILE = 2**28
EDGE = 0.1
"""Units by which points of a node may lie beyond its cube, by rounding."""

_KEY = re.compile(r"(\d{1,2})-(\d{1,10})-(\d{1,10})-(\d{1,10})")

Node = tuple[NodeKey, int]
"""A node and its count of points."""


@dataclass(frozen=True)
class EptDocument:
    """What ``ept.json`` says."""

    count: int
    bounds: tuple[float, float, float, float]
    """left, bottom, right, top of the points, in units of the file."""
    stated: Stated
    corner: tuple[float, float]
    side: float


def is_ept(href: str) -> bool:
    """Whether an href is that of an EPT, by its name."""
    return PurePosixPath(href.split("?")[0]).name == "ept.json"


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
        raise DataError(f"an EPT whose bounds {cube} are no cube")
    corner, side = (cube[0], cube[1]), cube[3] - cube[0]
    return EptDocument(count, (real[0], real[1], real[3], real[4]), _srs(said.get("srs")), corner, side)


def read_tiles(place: PointPlace, file: PointBytes, window: Square) -> Iterator[tuple[LasHeader, Points]]:
    """Points of the nodes that touch a window in units of the file; some of them lie beyond it.

    Raises DataError for a hierarchy or tiles that lie.
    """
    said = read_document(file)
    tree, lock = _tree(place, file.version, said)
    with lock:
        nodes = tree.touching(
            window, 1e-3, lambda keys: [_page(place, k) for k in keys], lambda e: isinstance(e, NodeKey)
        )
        tree.check_sum((count for _, count in tree.nodes.values()), said.count)
    for key, count in sorted(n for n in nodes if n[1]):
        if (known := kept_nodes.get((place, file.version, key))) is None:
            known = using_points(_beside(place, f"ept-data/{_name(key)}.laz"), partial(_tile, key=key, count=count))
            kept_nodes.add((place, file.version, key), known)
        yield known


@lru_cache(maxsize=64)
def _tree(
    place: PointPlace, version: tuple[int, str], said: EptDocument
) -> tuple[Octree[Node, NodeKey], threading.Lock]:
    tree: Octree[Node, NodeKey] = Octree(said.corner, said.side)
    tree.pages[ROOT] = ROOT
    return tree, threading.Lock()


def _page(place: PointPlace, page: NodeKey) -> dict[NodeKey, Node | NodeKey]:
    return using_points(_beside(place, f"ept-hierarchy/{_name(page)}.json"), _entries, JSON)


def _entries(file: PointBytes) -> dict[NodeKey, Node | NodeKey]:
    found: dict[NodeKey, Node | NodeKey] = {}
    for name, count in _json(file).items():
        parts = _KEY.fullmatch(name)
        if parts is None or isinstance(count, bool) or not isinstance(count, int) or not -1 <= count < 2**31:
            raise DataError(f"its hierarchy has {name[:60]!r}: {str(count)[:40]}; expected D-X-Y-Z and a count")
        key = checked_key(*(int(v) for v in parts.groups()))
        found[key] = key if count == -1 else (key, count)
    return found


def _tile(file: PointBytes, key: NodeKey, count: int) -> tuple[LasHeader, Points]:
    header = read_header(file)
    if header.count != count:
        raise DataError(f"has {header.count} points, its hierarchy says {count}")
    if file.size > MAX_TILE or count * header.record_bytes > MAX_CHUNK_BYTES:
        raise DataError(f"{count} points in {file.size} bytes are too many for one node")
    raw = b"".join(bytes(part) for part in raw_parts(file, header))
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
        raise DataError("a JSON document that is no object")
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
