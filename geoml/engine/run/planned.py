"""The model of a plan, loaded for its blocks: one that was replaced after the plan was made is refused.

Every block says in its item which weights made it, and takes that from the plan; so what is loaded has to be that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoml.errors import ModelError
from geoml.io.cards.map_card import MapCard

if TYPE_CHECKING:
    from geoml.engine.packages.package import Package

ABOUT = frozenset(
    {"description", "license", "bbox", "training", "scores", "parameters", "domain", "int8", "level", "profile"}
)
"""Fields of a card that change no class of a pixel and no meaning of one."""


def changed_fields(planned: MapCard, loaded: MapCard) -> list[str]:
    """Fields that differ and decide what a map says, of those that the plan has: one by an older geoml lacks some."""
    before, after = (c.model_dump(mode="json", exclude=set(ABOUT)) for c in (planned, loaded))
    return [name for name in before if name in planned.model_fields_set and before[name] != after.get(name)]


def load_planned(path: str, planned: MapCard) -> Package:
    """The package at ``path``. Raises ModelError when it is not the planned one, and what
    `geoml.engine.packages.package.load` raises."""
    from geoml.engine.packages.package import load  # torch, which a comparison of cards does without

    package = load(path)
    if fields := changed_fields(planned, package.card):
        raise ModelError(
            f"{path}: replaced since the run was planned (other {', '.join(fields)}); "
            "give the command again, with another folder where blocks are done"
        )
    return package
