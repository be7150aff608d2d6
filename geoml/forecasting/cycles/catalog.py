"""The items of all cycles in one STAC collection, by UTC day of the reference time.

A block has the same id in every cycle, so here an item has the name of its cycle before it; its files stay in the run.
A look writes the days that it has touched and the top, whatever the age of the folder.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoml.forecasting.cycles.folder import CYCLES, Cycle, begun, issued
from geoml.forecasting.cycles.look import CycleLook
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.items import LARGEST_ITEM, united
from geoml.io.stores.store import read_small, within, write_json

DAYS = "days"
"""Folder with one for each day: its ``catalog.json`` and items."""
GEOJSON, JSON = "application/geo+json", "application/json"
VERSIONS = ("predecessor-version", "successor-version")


def write_catalog(recipe: CycleRecipe, look: CycleLook) -> None:
    """Write the items and days of the look, as far as they differ, and ``collection.json``."""
    out = look.out
    name = f"{Path(recipe.model).name}-cycles"
    about = f"Forecasts by {Path(recipe.model).name}"
    found: dict[str, list[dict[str, Any]]] = {}
    for cycle in begun(out):
        if cycle.reference >= look.first and issued(out, cycle) is not None:
            items = [_copy(out, cycle, path, name) for path in sorted((cycle.within(out) / "items").glob("*.json"))]
            found.setdefault(f"{cycle.reference:%Y-%m-%d}", []).extend(items)
    for day in found:
        names = sorted(path.stem for path in (out / DAYS / day).glob("*.json") if path.stem != "catalog")
        above = [{"rel": rel, "href": "../../collection.json", "type": JSON} for rel in ("root", "parent")]
        links = above + [{"rel": "item", "href": f"./{item}.json", "type": GEOJSON} for item in names]
        top = {"type": "Catalog", "stac_version": "1.1.0", "id": f"{name}-{day}", "description": f"{about}, {day}"}
        _write(out, f"{DAYS}/{day}/catalog.json", {**top, "links": links})
    days = sorted(path.parent.name for path in (out / DAYS).glob("*/catalog.json"))
    links = [{"rel": "root", "href": "./collection.json", "type": JSON}]
    links += [{"rel": "child", "href": f"./{DAYS}/{d}/catalog.json", "type": JSON, "title": d} for d in days]
    before = _read(out / "collection.json").get("extent")
    extents = [*([before] if before else []), *(_extent(item) for items in found.values() for item in items)]
    if extents:
        ends = [time for extent in extents for time in extent["temporal"]["interval"][0]]
        box = united([extent["spatial"]["bbox"][0] for extent in extents])
        made = {
            "type": "Collection",
            "stac_version": "1.1.0",
            "id": name,
            "title": about,
            "description": f"{about}, by reference time; what a newer issue replaced is deprecated",
            "license": "other",
            "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [[min(ends), max(ends)]]}},
            "links": links,
        }
        _write(out, "collection.json", made)


def _copy(out: Path, cycle: Cycle, path: Path, collection: str) -> dict[str, Any]:
    """The item of a run as one of the collection of all cycles."""
    item, home = _read(path), f"{CYCLES}/{cycle.name}/items"
    for asset in item["assets"].values():
        asset["href"] = _moved(asset["href"], home)
    links = [{"rel": rel, "href": "../../collection.json", "type": JSON} for rel in ("root", "collection")]
    links.append({"rel": "parent", "href": "./catalog.json", "type": JSON})
    for link in item["links"]:
        if link["rel"] in VERSIONS:
            *_, other, _, file = link["href"].split("/")
            links.append({**link, "href": f"./{other}-{file}"})
        elif link["rel"] not in ("root", "parent", "collection"):
            links.append({**link, "href": _moved(link["href"], home)})
    made = {**item, "id": f"{cycle.name}-{item['id']}", "collection": collection, "links": links}
    _write(out, f"{DAYS}/{cycle.reference:%Y-%m-%d}/{cycle.name}-{path.name}", made)
    return made


def _moved(href: str, home: str) -> str:
    """A relative href of a file in the folder ``home`` as one two folders below the top."""
    return f"../../{posixpath.normpath(f'{home}/{href}')}" if href.startswith(".") else href


def _extent(item: Mapping[str, Any]) -> dict[str, Any]:
    said = item["properties"]
    ends = [said.get(key) or said["datetime"] for key in ("start_datetime", "end_datetime")]
    return {"spatial": {"bbox": [item["bbox"]]}, "temporal": {"interval": [ends]}}


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(read_small(path, LARGEST_ITEM) or b"{}"))


def _write(out: Path, name: str, value: Mapping[str, Any]) -> None:
    path = within(out, name)
    if _read(path) != value:
        write_json(path, value)
