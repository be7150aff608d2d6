"""Advection: rain or cloud keeps moving as before and neither grows nor decays, with quantiles of its errors around it.

Lagrangian persistence of Germann and Zawadzki 2002, https://doi.org/10.1175/1520-0493(2002)130<2859:SDOTPO>2.0.CO;2.
The frame is moved when it is read (`geoml.cube.motion`); here it is the guess.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.layout import UNKNOWN, ForecastWindow

TASKS = ("forecast",)
TINY = {"history": 2, "leads": (1, 3), "guess": True}


@dataclass(frozen=True)
class Config(ForecastConfig):
    """Raises InputError without a guess."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.guess:
            raise InputError("guess: advection is what has moved on; expected true")


class Advection(EstimatedForecast):
    """The moved frame; unknown where what comes was not seen."""

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        assert window.guess is not None
        assert window.guess_known is not None
        return torch.where(window.guess_known, window.guess, UNKNOWN)


build = Advection
