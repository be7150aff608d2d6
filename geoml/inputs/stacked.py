"""As many dates as the card has: one is a mosaic; several are stacked as bands and registered like a pair.

For tasks that do not compare dates, and take what a model was trained on.
"""

from __future__ import annotations

from geoml.engine import contract
from geoml.inputs import dated_pair, mosaic
from geoml.io.cards.map_card import MapCard
from geoml.recipe import PredictRecipe

TINY = {"dates": 3}
"""Arguments of `geoml.testing.card`, for the contract tests."""


def Input(card: MapCard, recipe: PredictRecipe | None = None) -> contract.Input:
    """`geoml.inputs.mosaic.Input` or `geoml.inputs.dated_pair.Input`."""
    return (mosaic.Input if card.dates == 1 else dated_pair.Input)(card, recipe)
