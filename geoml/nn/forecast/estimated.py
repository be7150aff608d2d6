"""Forecasts without training: a centre in closed form, and around it the quantiles of its errors by lead."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.layout import ForecastWindow


class EstimatedForecast(nn.Module, ABC):
    """The parts that all simple methods share. ``offsets`` are of each lead and level, in the normalised unit."""

    stride = 1
    exact = False
    """Whether the median is the centre itself, and not moved by the median error."""
    offsets: Tensor

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("offsets", torch.zeros(len(config.leads), len(config.levels)))

    @abstractmethod
    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        """The forecast of one number."""

    def fit_centre(self, window: ForecastWindow, target: Float[Tensor, "batch lead y x"]) -> None:
        """Take what the centre needs from windows of training time; NaN in ``target`` is not known."""

    @torch.no_grad()
    def estimate(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch look y x"] | None,
        target: Float[Tensor, "batch lead y x"],
    ) -> None:
        """Take all that is estimated from windows of training time at once; NaN in ``target`` is not known."""
        window = self.config.layout.split(x, looks)
        self.fit_centre(window, target)
        error = target - self.centre(window)
        levels = torch.tensor(self.config.levels, dtype=torch.float64)
        for lead in range(error.shape[1]):
            known = error[:, lead][torch.isfinite(error[:, lead])].double().sort().values
            if len(known):
                at = levels * (len(known) - 1)
                low = known[at.floor().long()]
                offsets = low + (known[at.ceil().long()] - low) * at.frac()
                if self.exact:
                    offsets = torch.where(levels < 0.5, offsets.clamp(max=0), offsets.clamp(min=0) * (levels > 0.5))
                self.offsets[lead] = offsets.to(self.offsets.dtype)

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> Float[Tensor, "batch output y x"]:
        centre = self.centre(self.config.layout.split(x, looks))
        return (centre[:, :, None] + self.offsets[None, :, :, None, None]).flatten(1, 2)
