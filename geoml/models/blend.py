"""A blend of simple forecasts: for each lead the weights that would have been best, none negative and summing to one.

J. M. Bates and C. W. J. Granger (1969): The Combination of Forecasts, https://doi.org/10.1057/jors.1969.103; weights
that are not negative and sum to one follow L. Breiman (1996): Stacked Regressions, https://doi.org/10.1007/BF00117832.
The members are the last value, the value a whole number of periods before, the climatology, the climatology plus the
whole last anomaly, and a ridge regression on the lags; so persistence, yesterday and the damped anomaly are blends too.
The weights are fitted with regressions from the other half of the windows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError
from geoml.models.damped import last_anomaly
from geoml.models.ridge import Config as RidgeConfig
from geoml.models.ridge import RidgeForecast
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.layout import ForecastWindow

TASKS = ("forecast",)
TINY = {"history": 4, "leads": (1, 3), "background": True, "period": 2}
NAMES = ("last", "periodic", "climatology", "climatology and last anomaly", "regression")


@dataclass(frozen=True)
class Config(ForecastConfig):
    """``period`` is in steps, such as 24 of hours; ``penalty`` is that of `geoml.models.ridge`.

    Raises InputError without a background, and for a period longer than the history.
    """

    period: int = 24
    penalty: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.background:
            raise InputError("background: a blend has a climatology in it; expected true")
        if not 1 <= self.period <= self.history:
            raise InputError(f"period: {self.period}; expected 1 to {self.history}, which is the history")


class Blend(EstimatedForecast):
    """``shares`` (lead, simple forecast) as in `NAMES`."""

    shares: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.period = config.period
        own = {f.name: getattr(config, f.name) for f in fields(ForecastConfig)}
        self.regression = RidgeForecast(RidgeConfig(**own, penalty=config.penalty))
        self.register_buffer("shares", torch.full((len(config.leads), len(NAMES)), 1 / len(NAMES)))

    def simple(self, window: ForecastWindow) -> Float[Tensor, "batch lead simple y x"]:
        """The forecasts that are blended; what is not known is the climatology."""
        assert window.background is not None
        anomaly, known = last_anomaly(window)
        last, _ = window.last()
        regressed, each = self.regression.centre(window), []
        for n, lead in enumerate(self.config.leads):
            usual = window.background[:, n]
            back = -(-lead // self.period) * self.period - lead
            step = self.config.history - 1 - back
            before = torch.where(window.known[:, step, 0], window.history[:, step, 0], usual)
            each.append(
                torch.stack([torch.where(known, last, usual), before, usual, usual + anomaly, regressed[:, n]], 1)
            )
        return torch.stack(each, 1)

    def fit_centre(self, window: ForecastWindow, target: Float[Tensor, "batch lead y x"]) -> None:
        halves = [slice(None, len(target) // 2), slice(len(target) // 2, None)]
        found = []
        for mine, other in (halves, halves[::-1]) if len(target) > 1 else ():
            self.regression.fit_centre(_part(window, other), target[other])
            found.append(self.simple(_part(window, mine)))
        self.regression.fit_centre(window, target)
        simple = torch.cat(found) if found else self.simple(window)
        for lead in range(target.shape[1]):
            y = target[:, lead].flatten()
            known = torch.isfinite(y)
            if known.any():
                of = simple[:, lead].transpose(0, 1).flatten(1).T
                self.shares[lead] = best_shares(of[known].double(), y[known].double()).to(self.shares.dtype)

    def centre(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        return (self.simple(window) * self.shares[None, :, :, None, None]).sum(2)


def _part(window: ForecastWindow, mine: slice) -> ForecastWindow:
    """Some of the batch."""
    tensors = {f.name: getattr(window, f.name) for f in fields(window)}
    return replace(window, **{name: t[mine] for name, t in tensors.items() if t is not None})


def best_shares(forecasts: Float[Tensor, "row simple"], truth: Float[Tensor, " row"]) -> Float[Tensor, " simple"]:
    """Shares from 0 to 1 that add up to 1, with the least mean square error: of all groups of forecasts the best blend
    in which none has a share below nothing."""
    error = forecasts - truth[:, None]
    gram = error.T @ error / len(error)
    best, least = torch.zeros(len(gram), dtype=gram.dtype), torch.inf
    for size in range(1, len(gram) + 1):
        for group in combinations(range(len(gram)), size):
            part = gram[list(group)][:, list(group)]
            part = part + 1e-9 * part.diagonal().mean().clamp(min=1e-12) * torch.eye(size, dtype=gram.dtype)
            weights = torch.linalg.solve(part, torch.ones(size, dtype=gram.dtype))
            weights = weights / weights.sum()
            square = float(weights @ part @ weights)
            if bool((weights >= 0).all()) and square < least:
                best, least = torch.zeros_like(best), square
                best[list(group)] = weights
    return best


build = Blend
