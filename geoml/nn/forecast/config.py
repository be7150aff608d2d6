"""What every model of forecasts is built by: its channels, its leads and its quantiles."""

from __future__ import annotations

from dataclasses import dataclass

from geoml.errors import InputError
from geoml.nn.forecast.layout import Layout
from geoml.nn.forecast.levels import LEVELS, check_levels


@dataclass(frozen=True)
class ForecastConfig:
    """``history`` steps of ``variables``, the first of which is the target, are seen; ``leads`` are steps ahead.

    ``futures`` is how many features of a lead are known ahead; ``background`` and ``guess`` say whether a
    climatology and a simple forecast are among the channels; ``levels`` are those of the quantiles, rising, with 0.5.

    Raises InputError for what makes no layout, leads that do not rise, and as `check_levels` does.
    """

    history: int
    leads: tuple[int, ...]
    variables: int = 1
    futures: int = 0
    background: bool = False
    guess: bool = False
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        if list(self.leads) != sorted(set(self.leads)) or min(self.leads, default=0) < 1:
            raise InputError(f"leads: {list(self.leads)}; expected whole steps from 1 on, rising")
        check_levels(self.levels)
        _ = self.layout

    @property
    def layout(self) -> Layout:
        return Layout(self.history, len(self.leads), self.variables, self.futures, self.background, self.guess)

    @property
    def outputs(self) -> int:
        """Channels of the answer: quantile after quantile of each lead."""
        return len(self.leads) * len(self.levels)
