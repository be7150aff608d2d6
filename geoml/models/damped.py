"""Damped anomaly: the climatology plus the share of the last anomaly that usually remains at each lead.

``climatology(t + lead) + phi(lead) * anomaly(t)`` with phi by least squares through the origin: an autoregression of
the anomaly, as in E. N. Lorenz (1973), https://doi.org/10.1175/1520-0450(1973)012<0543:OTEOET>2.0.CO;2. Where the age
of what was last known is among the channels, phi is of age plus lead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
            raise InputError("background: an anomaly is from a climatology; expected true")


class DampedAnomaly(EstimatedForecast):
    """``phi`` is of each lead, or of distances of 1, 2, 4, 8, … steps, where it is neither below 0 nor above 1."""

    phi: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.register_buffer("phi", torch.zeros(self.knots or len(config.leads)))

    def fit_centre(self, window: ForecastWindow, target: Float[Tensor, "batch lead y x"]) -> None:
        assert window.background is not None
        anomaly, known = last_anomaly(window)
        later = target - window.background
        if self.knots:
            self._fit_by_distance(window, anomaly, later)
            return
        for lead in range(target.shape[1]):
            both = known & torch.isfinite(later[:, lead])
            one, two = anomaly[both].double(), later[:, lead][both].double()
            self.phi[lead] = ((one * two).sum() / one.square().sum().clamp(min=1e-12)).to(self.phi.dtype)

    def _fit_by_distance(self, window: ForecastWindow, anomaly: Tensor, later: Tensor) -> None:
        """By least squares of straight lines between the knots, which differ little where nothing tells them apart."""
        known = torch.isfinite(later)
        x, y = anomaly[:, None].expand_as(later)[known].double(), later[known].double()
        distance = self.distance(window)[known]
        rows = torch.stack([self.along(hat, distance) for hat in torch.eye(self.knots)]).double() * x
        gram = rows @ rows.T
        apart = torch.eye(self.knots, dtype=gram.dtype).diff(dim=0)
        shrink = 1e-4 * gram.diagonal().mean().clamp(min=1e-12)
        even = shrink * (apart.T @ apart + 1e-4 * torch.eye(self.knots))
        phi = torch.linalg.solve(gram + even, rows @ y)
        self.phi = phi.clamp(0, 1).to(self.phi.dtype)

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        assert window.background is not None
        anomaly, _ = last_anomaly(window)
        phi = self.along(self.phi, self.distance(window)) if self.knots else self.phi[None, :, None, None]
        return window.background + phi * anomaly[:, None]


def last_anomaly(window: ForecastWindow) -> tuple[Float[Tensor, "batch y x"], Bool[Tensor, "batch y x"]]:
    """The latest known value less the climatology of its time, 0 where there is none, and where there is one."""
    assert window.past is not None
    anomaly, known = torch.zeros_like(window.past[:, 0]), torch.zeros_like(window.known[:, 0, 0])
    for step in range(window.history.shape[1]):
        seen = window.known[:, step, 0]
        anomaly = torch.where(seen, window.history[:, step, 0] - window.past[:, step], anomaly)
        known = known | seen
    return anomaly, known


build = DampedAnomaly
