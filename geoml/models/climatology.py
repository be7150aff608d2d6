"""Climatology: the usual value at the time of each lead and its error; recent values do not count.

The climatology comes as the channel ``background`` of `geoml.nn.forecast.layout`, with a trend where it has one. As a
forecast: https://www.cawcr.gov.au/projects/verification/.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.layout import ForecastWindow

TASKS = ("forecast",)
TINY = {"history": 4, "leads": (1, 3), "background": True}


@dataclass(frozen=True)
class Config(ForecastConfig):
    """Raises InputError without a background."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.background:
            raise InputError("background: climatology has nothing else to say; expected true")


class ClimatologyForecast(EstimatedForecast):
    """The background at each lead."""

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        assert window.background is not None
        return window.background


build = ClimatologyForecast
