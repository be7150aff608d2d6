"""The recipe of `geoml clouds`: the items that get a mask, and the network that makes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from geoml.fields import Unhashed
from geoml.io.cards.profile import Level
from geoml.recipe import Frozen, Place, Query


class CloudMaskRecipe(Frozen):
    """Masks of clouds for the items of a query."""

    query: Query
    model: Place | None = Field(
        default=None,
        description="package of a network with a class called clear; by default that of ukis-csmask for the bands and"
        " level of each item",
    )
    level: Level | None = Field(
        default=None,
        description="level of processing of items that do not state theirs: L1C is reflectance at the top of the"
        " atmosphere, L2A at the surface",
    )
    buffer: float = Field(
        default=120.0,
        ge=0,
        le=10_000,
        description="metres around clouds and shadows, from centre to centre of pixels, that do not count as clear",
    )
    again: bool = Field(default=False, description="also make masks for items that have one")
    block_size: Annotated[int, Unhashed("a pixel does not depend on its block")] = Field(
        default=2048, ge=64, le=65536, description="side of a block in pixels; does not change the result"
    )
