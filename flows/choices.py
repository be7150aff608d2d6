"""What fields of a form offer: the names known when the flow was deployed, or any other text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geoml.cube.clouds.ground import FILTERS
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages.cards import names
from geoml.errors import InputError
from geoml.forecasting.grids.run import SIMPLE as GRIDS
from geoml.forecasting.rows.simple import SIMPLE as TABLES
from geoml.geolocation.cards.locator import LocatorCard
from geoml.inputs.points import DELIVERED
from geoml.io.cards.map_card import MapCard
from geoml.io.cubes.spec import cube_names
from geoml.io.stac.catalog import catalog_names
from geoml.settings import catalog_files

from . import signatures

Schema = dict[str, Any]


def _choice(known: list[str], other: str) -> Schema:
    """One of the names known when the flow was deployed, or any other text."""
    texts: list[Schema] = [{"type": "string", "title": other, "pattern": signatures.PATTERN}]
    if known:
        texts.insert(0, {"type": "string", "title": "name", "enum": known})
    return {"anyOf": texts}


def _choices(names: Callable[[], list[str]]) -> list[str]:
    """Names to choose from; none where a setting is wrong, which every run says by itself."""
    try:
        return names()
    except InputError:
        return []


def _recipes() -> list[str]:
    """Names of the training recipes in the catalogs."""
    texts = {p.stem: p.read_text(encoding="utf-8") for p in catalog_files("recipes/*.yaml").values()}
    return [name for name, text in texts.items() if "\ntask:" in text or "\nquery:" not in text]


CHOICES = {
    "catalog": _choice(_choices(catalog_names), "URL or file"),
    "model": _choice(_choices(lambda: names(MapCard)), "folder or URL of a package"),
    "any_model": _choice(_choices(names), "folder or URL of a package"),
    "forecast": _choice(sorted({*GRIDS, *TABLES}), "folder or URL of a package"),
    "reads": _choice(_choices(cube_names), "YAML file"),
    "ground": _choice([DELIVERED, *FILTERS.names(), *_choices(lambda: names(PointCard))], "folder of a package"),
    "locator": _choice(_choices(lambda: names(LocatorCard)), "folder or URL of a package"),
    "recipe": _choice(_choices(_recipes), "YAML file"),
}
"""What a field of this name offers."""
