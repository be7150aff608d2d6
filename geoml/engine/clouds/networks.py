"""Which network masks an item: by its bands and its level of processing."""

from __future__ import annotations

import logging
from pathlib import Path

import pystac

from geoml.engine.clouds.recipe import CloudMaskRecipe
from geoml.engine.packages import cards
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.io.cards.profile import Level
from geoml.io.stac.bands import band_specs, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.texts import counted

log = logging.getLogger(__name__)

CLEAR = "clear"
"""Class of pixels that may be used; all others may not."""
NEEDED = ("blue", "green", "red", "nir")
SHORTWAVE = ("swir16", "swir22")
SAYS_LEVEL = ("processing:level", "landsat:correction")
LEVELS: dict[str, Level] = {"L1": "L1C", "L2": "L2A"}
"""How a level of Sentinel-2 or Landsat begins, and the level of Sentinel-2 that stands for it."""


def network_of(item: pystac.Item, recipe: CloudMaskRecipe, profile: Profile, catalog: Catalog) -> str:
    """Name of the network of ukis-csmask for an item, such as 6b-l2a.

    Raises InputError for an item without blue, green, red and near infrared, and for one of which no level is known.
    """
    select(item, NEEDED, profile, catalog)
    level = stated_level(item) or recipe.level
    if level is None:
        raise InputError(
            f"level: item {item.id} states none; expected --level L1C (top of the atmosphere) or L2A (surface)"
        )
    count = 6 if band_specs(item, profile, catalog).keys() >= set(SHORTWAVE) else 4
    return f"{count}b-{level.lower()}"


def stated_level(item: pystac.Item) -> Level | None:
    """What an item, or else the name of its collection, says of its level of processing."""
    stated = [str(item.properties.get(name) or "") for name in SAYS_LEVEL]
    stated.append(str(item.collection_id or "").rpartition("-")[2])
    return next((level for text in stated for prefix, level in LEVELS.items() if text.upper().startswith(prefix)), None)


def package(name: str, folder: Path) -> Path:
    """The package of a network of ukis-csmask in ``folder``, made there where it is not yet.

    Raises MissingExtra where ukis-csmask, onnx or onnxruntime are not installed.
    """
    place = folder / name
    if not (place / cards.CARD).is_file():
        from geoml.engine.importers import ukis_csmask  # torch, which a run of another network may do without

        log.info("ukis-csmask %s is turned into a package, which takes about half a minute", name)
        ukis_csmask.convert(name, place)
    return place


def check_classes(model: str | Path) -> MapCard:
    """The card of a network that masks clouds. Raises InputError for one without the class clear."""
    card = cards.read(model, MapCard)
    names = [c.name for c in card.classes]
    if CLEAR not in names or len(names) < 2 or card.dates != 1:
        raise InputError(
            f"model: {card.name} has the classes {', '.join(names)} of {counted(card.dates, 'date')}; expected"
            f" {CLEAR} and others, of one date"
        )
    return card
