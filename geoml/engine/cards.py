"""The card of any package: a model that makes maps or a locator of pictures."""

from __future__ import annotations

import json
from pathlib import Path

from geoml.engine import locator, package
from geoml.errors import InputError
from geoml.io.card import ModelCard
from geoml.io.locator_card import LocatorCard, is_locator
from geoml.texts import listed

__all__ = ["LocatorCard", "default_locator", "locators", "read"]


def read(name_or_dir: str | Path) -> ModelCard | LocatorCard:
    """A card by name, folder or URL. Raises as `geoml.engine.package.read_card`."""
    return locator.read_card(name_or_dir) if _locates(name_or_dir) else package.read_card(name_or_dir)


def locators() -> list[str]:
    """Names of the locators among the packages."""
    return [name for name in package.names() if _locates(name)]


def default_locator() -> str:
    """The one locator that is there. Raises InputError when there are several or none."""
    known = locators()
    if len(known) != 1:
        raise InputError(f"model: {listed(known, 'no locator')} installed; expected --model NAME_OR_DIR")
    return known[0]


def _locates(name_or_dir: str | Path) -> bool:
    try:
        path = package.find(name_or_dir) / package.CARD
        return path.stat().st_size <= package.MAX_CARD and is_locator(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, RecursionError) as err:
        if isinstance(err, InputError):
            raise
        return False
