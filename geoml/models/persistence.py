"""Persistence: the last known value stays, or returns after a period, with the quantiles of its errors around it.

The simplest forecast and the one to beat, see https://www.cawcr.gov.au/projects/verification/ and I. T. Jolliffe and
D. B. Stephenson: Forecast Verification, Wiley 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.layout import ForecastWindow

TASKS = ("forecast",)
TINY = {"history": 4, "leads": (1, 3)}


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``period`` is in steps, 24 of hours for "the same hour yesterday"; 0: the last known value.

    Raises InputError for a period that is longer than the history.
    """

    period: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.period <= self.history:
            raise InputError(f"period: {self.period}; expected 0 to {self.history}, which is the history")


class Persistence(EstimatedForecast):
    """The last known value, or that of a whole number of periods before each lead where it is known."""

    exact = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.period = config.period

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        """Where no step is known it is 0, the mean of the training data."""
        last, _ = window.last()
        found = []
        for lead in self.config.leads:
            back = -(-lead // self.period) * self.period - lead if self.period else self.config.history
            step = self.config.history - 1 - back
            if step < 0:
                found.append(last)
            else:
                found.append(torch.where(window.known[:, step, 0], window.history[:, step, 0], last))
        return torch.stack(found, 1)


build = Persistence
