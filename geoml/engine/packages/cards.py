"""The card of any package: a model that makes maps or a locator of pictures."""

from __future__ import annotations

from pathlib import Path

from geoml.engine.packages import package
from geoml.engine.packages.card_files import read_item
from geoml.errors import InputError, ModelError
from geoml.geolocation.locate import card as locator_card
from geoml.geolocation.locate.card import LocatorCard, is_locator
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.texts import listed

__all__ = ["LocatorCard", "default_locator", "locators", "read"]


def read(name_or_dir: str | Path) -> ModelCard | LocatorCard:
    """A card by name, folder or URL. Raises as `geoml.engine.packages.package.read_card`."""
    path = package.find(name_or_dir) / package.CARD
    item = read_item(path)
    return locator_card.from_item(item, str(path)) if is_locator(item) else mlm.from_item(item, str(path))


def locators() -> list[str]:
    """Names of the locators among the packages."""
    return [name for name in package.names() if _locates(name)]


def default_locator() -> str:
    """The one locator that is there. Raises InputError when there are several or none."""
    known = locators()
    if len(known) != 1:
        raise InputError(f"model: {listed(known, 'no locator')} installed; expected --model NAME_OR_DIR")
    return known[0]


def _locates(name: str) -> bool:
    try:
        return is_locator(read_item(package.find(name) / package.CARD))
    except ModelError:
        return False
