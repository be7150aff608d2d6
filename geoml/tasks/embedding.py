"""Embeddings of every pixel of a series, by an encoder: nothing is learnt and nothing is scored.

An encoder is imported (``geoml models import``), and its card becomes that of a map for the steps of a recipe, see
`geoml.engine.cards.encoder.EncoderCard.map_card`.
"""

from __future__ import annotations

from typing import ClassVar, final

from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen


@final
class Task:
    """Names what a map of embeddings reads and makes."""

    name: ClassVar = "embedding"
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "series"
    output: ClassVar = "embedding"
