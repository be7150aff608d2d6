"""Versions of a run in its items and its collection, by the version extension of STAC (v1.2.0).

https://github.com/stac-extensions/version: an item that a newer one replaces is ``deprecated`` and stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geoml.io.stac.item_stream import ItemStream
from geoml.io.stac.items import LARGEST_ITEM
from geoml.io.stores.multihash import multihash
from geoml.io.stores.store import read_small, sha256, write_json

VERSION = "https://stac-extensions.github.io/version/v1.2.0/schema.json"
GEOJSON, JSON = "application/geo+json", "application/json"


def write_version(run: Path, version: int, predecessor: Path | None = None, successor: Path | None = None) -> None:
    """Say the version of a run in its items, their table and its collection; with a ``successor`` it is deprecated.

    The runs are folders beside each other. Saying it again changes nothing. Raises DataError if it cannot be written.
    """
    others = {"predecessor-version": predecessor, "successor-version": successor}
    items = []
    for path in sorted((run / "items").glob("*.json")):
        item = json.loads(read_small(path, LARGEST_ITEM) or b"{}")
        item["properties"] |= _fields(version, successor)
        _link(item, {rel: f"../../{o.name}/items/{path.name}" for rel, o in others.items()
                     if o is not None and (o / "items" / path.name).is_file()}, GEOJSON)  # fmt: skip
        write_json(path, item)
        items.append(item)
    top = json.loads(read_small(run / "collection.json", LARGEST_ITEM) or b"{}")
    top |= _fields(version, successor)
    _link(top, {rel: f"../{o.name}/collection.json" for rel, o in others.items() if o is not None}, JSON)
    table = run / "items.parquet"
    if table.is_file():
        with ItemStream(table) as stream:
            for item in items:
                stream.add(item)
            stream.close()
        top["assets"]["items"] |= {"file:size": table.stat().st_size, "file:checksum": multihash(sha256(table))}
    write_json(run / "collection.json", top)


def _fields(version: int, successor: Path | None) -> dict[str, object]:
    return {"version": str(version), **({} if successor is None else {"deprecated": True})}


def _link(document: dict[str, Any], hrefs: dict[str, str], kind: str) -> None:
    links = [link for link in document["links"] if link["rel"] not in hrefs]
    document["links"] = links + [{"rel": rel, "href": href, "type": kind} for rel, href in hrefs.items()]
    document["stac_extensions"] = sorted({*document.get("stac_extensions", ()), VERSION})
