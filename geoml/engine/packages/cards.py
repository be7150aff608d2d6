"""The cards of packages; weights are not touched and torch is not needed."""

from __future__ import annotations

from pathlib import Path

from geoml.engine.packages.folder import CARD, find, names, read_item
from geoml.errors import InputError, ModelError
from geoml.geolocation.locate import card as locator_card
from geoml.geolocation.locate.card import LocatorCard, is_locator
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.texts import listed


def read_card(name_or_dir: str | Path) -> ModelCard:
    """The card of a model that makes maps, by name, folder or URL.

    Raises as `geoml.engine.packages.folder.find`, and ModelError for a damaged card.
    """
    path = find(name_or_dir) / CARD
    return mlm.from_item(read_item(path), str(path))


def read(name_or_dir: str | Path) -> ModelCard | LocatorCard:
    """The card of any package: a model that makes maps or a locator of pictures. Raises as `read_card`."""
    path = find(name_or_dir) / CARD
    item = read_item(path)
    return locator_card.from_item(item, str(path)) if is_locator(item) else mlm.from_item(item, str(path))


def locators() -> list[str]:
    """Names of the locators among the packages."""
    return [name for name in names() if _locates(name)]


def default_locator() -> str:
    """The one locator that is there. Raises InputError when there are several or none."""
    known = locators()
    if len(known) != 1:
        raise InputError(f"model: {listed(known, 'no locator')} installed; expected --model NAME_OR_DIR")
    return known[0]


def _locates(name: str) -> bool:
    try:
        return is_locator(read_item(find(name) / CARD))
    except ModelError:
        return False
