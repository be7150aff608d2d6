"""Forecasts on grids: names what a run of one reads and makes.

They are trained by recipes of `geoml.forecasting.tasks.forecast` whose source is a cube.
"""

from __future__ import annotations

from typing import ClassVar, final

from geoml.io.cards.map_card import MapCard
from geoml.recipe import Frozen


@final
class Task:
    """A COG for each lead of every block."""

    name: ClassVar = "grid_forecast"
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "forecast"
    output: ClassVar = "forecast"
