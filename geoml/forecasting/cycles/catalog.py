"""The cycles as one STAC collection: a child for each UTC day of reference times, and that has one for each cycle.

So a look writes the days that it has touched and the top, whatever the age of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geoml.forecasting.cycles.folder import CYCLES, Cycle, begun, issued
from geoml.forecasting.cycles.look import CycleLook
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.stac.items import LARGEST_ITEM, united
from geoml.io.stores.store import read_small, within, write_json

DAYS = "days"
"""Folder of the collections of days."""
JSON = "application/json"


def write_catalog(recipe: CycleRecipe, look: CycleLook) -> None:
    """Write the days of the look, as far as they differ, and ``collection.json``."""
    days: dict[str, list[Cycle]] = {}
    wanted = {f"{r:%Y-%m-%d}" for r in look.references}
    for cycle in begun(look.out):
        day = f"{cycle.reference:%Y-%m-%d}"
        if day in wanted and issued(look.out, cycle) is not None:
            days.setdefault(day, []).append(cycle)
    title = f"Forecasts by {Path(recipe.model).name}"
    for day, cycles in days.items():
        parts = [_read(c.within(look.out) / "collection.json") for c in cycles]
        links = [_child(f"../{CYCLES}/{c.name}/collection.json", c.name) for c in cycles]
        above = [{"rel": rel, "href": "../collection.json", "type": JSON} for rel in ("root", "parent")]
        _write(
            look.out,
            f"{DAYS}/{day}.json",
            _collection(f"{recipe.model}-{day}", f"{title}, {day}", parts, above + links),
        )
    names = sorted(path.stem for path in (look.out / DAYS).glob("*.json"))
    before = _read(look.out / "collection.json")
    parts = [*([before] if before else []), *(_read(look.out / DAYS / f"{day}.json") for day in days)]
    links = [{"rel": "root", "href": "./collection.json", "type": JSON}]
    links += [_child(f"./{DAYS}/{name}.json", name) for name in names]
    if parts:
        _write(look.out, "collection.json", _collection(f"{recipe.model}-cycles", title, parts, links))


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(read_small(path, LARGEST_ITEM) or b"{}")
    return dict(found)


def _write(out: Path, name: str, value: Mapping[str, Any]) -> None:
    path = within(out, name)
    if _read(path) != value:
        write_json(path, value)


def _child(href: str, title: str) -> dict[str, str]:
    return {"rel": "child", "href": href, "type": JSON, "title": title}


def _collection(
    name: str, title: str, parts: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Of others: their extents together."""
    ends = [t for part in parts for t in part["extent"]["temporal"]["interval"][0] if t]
    box = united([part["extent"]["spatial"]["bbox"][0] for part in parts])
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name.strip("/").replace("/", "-"),
        "title": title,
        "description": f"{title}, by reference time; what a newer issue replaced is deprecated",
        "license": "other",
        "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [[min(ends), max(ends)]]}},
        "links": list(links),
    }
