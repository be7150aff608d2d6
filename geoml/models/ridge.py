"""Ridge regression on lags, in closed form: of the place itself, or of all places if they have their own weights.

A. E. Hoerl and R. W. Kennard (1970): Ridge Regression, https://doi.org/10.1080/00401706.1970.10488634. With a
background the anomaly from it is regressed, so that an unknown value (0) means "as usual".
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
TINY = {"history": 4, "leads": (1, 3), "background": True}


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``places`` that have weights of their own, which see the others too; 0: all share the weights of their own lags.

    ``recent`` is how many of the latest steps of other variables and other places count; ``penalty`` is in the unit of
    standardised values, for each window. Raises InputError for others.
    """

    places: int = 0
    recent: int = 6
    penalty: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.places < 0 or self.recent < 1 or self.penalty <= 0:
            raise InputError(f"ridge: {self}; expected places from 0, recent from 1, a penalty above 0")


class RidgeForecast(EstimatedForecast):
    """``weight`` is (place or 1, lead, feature)."""

    weight: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ridge = config
        self.recent = min(config.recent, config.history)
        features = config.history + (config.variables - 1) * self.recent + config.places * self.recent
        features += config.futures + 1
        self.register_buffer("weight", torch.zeros(max(1, config.places), len(config.leads), features))

    def features(self, window: ForecastWindow) -> Float[Tensor, "batch feature place"]:
        """Raises InputError for another number of places."""
        target = window.history[:, :, 0] if window.past is None else window.history[:, :, 0] - window.past
        target = torch.where(window.known[:, :, 0], target, 0.0).flatten(2)
        batch, _, count = target.shape
        if self.ridge.places not in (0, count):
            raise InputError(f"places: {count}; the regression has weights for {self.ridge.places}")
        parts = [target, window.history[:, -self.recent :, 1:].flatten(1, 2).flatten(2)]
        if self.ridge.places:
            parts.append(target[:, -self.recent :].flatten(1)[:, :, None].expand(-1, -1, count))
        parts += [window.future[:, 0].flatten(2), torch.ones(batch, 1, count, device=target.device)]
        return torch.cat(parts, 1)

    def fit_centre(self, window: ForecastWindow, target: Float[Tensor, "batch lead y x"]) -> None:
        features = self.features(window)
        wanted = (target if window.background is None else target - window.background).flatten(2)
        for place in range(len(self.weight)):
            mine = slice(place, place + 1) if self.ridge.places else slice(None)
            rows = features[:, :, mine].transpose(1, 2).flatten(0, 1)
            for lead in range(wanted.shape[1]):
                y = wanted[:, lead, mine].flatten()
                known = torch.isfinite(y)
                if known.any():
                    self.weight[place, lead] = solved(rows[known], y[known], self.ridge.penalty)

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        features = self.features(window)
        weight = self.weight.expand(features.shape[2], -1, -1)
        found = torch.einsum("bfp,plf->blp", features, weight)
        found = torch.unflatten(found, 2, window.future.shape[-2:])
        return found if window.background is None else found + window.background


def solved(x: Float[Tensor, "row feature"], y: Float[Tensor, " row"], penalty: float) -> Float[Tensor, " feature"]:
    """Weights of the regression; the last feature is the constant and is not shrunk."""
    x, y = x.double(), y.double()
    shrink = torch.full((x.shape[1],), penalty * len(x), dtype=torch.float64)
    shrink[-1] = 1e-9 * len(x)
    out: Tensor = torch.linalg.solve(x.T @ x + torch.diag(shrink), x.T @ y).float()
    return out


build = RidgeForecast
