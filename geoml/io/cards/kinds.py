"""Which class the card in a STAC item is of. Classes are found by file name, so that the core knows no wing.

A file ``geoml/WING/cards/NAME.py`` holds a class as ``CARD``. It is that of items whose task (``geoml:task``) is NAME,
or that have a section of this name (``geoml:NAME``). All others are maps. No file of cards imports torch.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

from geoml.io.cards.card import ModelCard
from geoml.io.cards.map_card import MapCard


def kinds() -> dict[str, type[ModelCard]]:
    """The class of each file, by its name."""
    return {name: _load(module) for name, module in sorted(_files().items())}


def card_of(item: Mapping[str, object]) -> type[ModelCard]:
    """The class of the card in ``item``, which may be any JSON object."""
    properties, files = item.get("properties"), _files()
    if not isinstance(properties, Mapping):
        return MapCard
    named = [properties.get("geoml:task"), *(k.removeprefix("geoml:") for k in properties if k.startswith("geoml:"))]
    return next((_load(files[name]) for name in named if isinstance(name, str) and name in files), MapCard)


def _files() -> dict[str, str]:
    """Modules by file name; ``geoml.io.cards``, this folder, holds what they share."""
    paths = [path for root in sys.modules["geoml"].__path__ for path in Path(root).glob("*/cards/[!_]*.py")]
    return {p.stem: f"geoml.{p.parts[-3]}.cards.{p.stem}" for p in paths if p.parts[-3] != "io"}


def _load(module: str) -> type[ModelCard]:
    kind: type[ModelCard] = importlib.import_module(module).CARD
    return kind
