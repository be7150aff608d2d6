"""Static catalogs out: one collection of items, in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pystac

from geoml.io.stac.items import united
from geoml.io.stores.store import within, write_json


def write_catalog(items: Sequence[pystac.Item], folder: Path, description: str) -> Path:
    """A static catalog of items, whose collection is called as its folder; gives its ``catalog.json``."""
    above = {"href": "../collection.json", "type": "application/json"}
    names, boxes, times = [], [], []
    for item in items:
        value = item.to_dict(include_self_link=False, transform_hrefs=False)
        value |= {"collection": folder.name, "links": [{"rel": rel, **above} for rel in ("parent", "collection")]}
        write_json(within(folder, f"items/{item.id}.json"), value)
        names.append(item.id)
        boxes.append(value["bbox"])
        times.append(value["properties"]["datetime"])
    top = {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    extent = {"spatial": {"bbox": [united(boxes)]}, "temporal": {"interval": [[min(times), max(times)]]}}
    links = [{"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"} for name in names]
    about = {"stac_version": "1.1.0", "id": folder.name, "description": description}
    collection = {"type": "Collection", **about, "license": "other", "extent": extent}
    write_json(within(folder, "collection.json"), {**collection, "links": [top, {**top, "rel": "parent"}, *links]})
    child = {"rel": "child", "href": "./collection.json", "type": "application/json"}
    write_json(within(folder, "catalog.json"), {"type": "Catalog", **about, "links": [top, child]})
    return folder / "catalog.json"
