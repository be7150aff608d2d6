"""The configuration of every forecast model: its channels, leads and quantiles."""

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
    ``aged``, if not 0: the history is one step, the last known value, and its age is a channel, below ``aged`` steps.

    Raises InputError for what makes no layout, leads that do not rise, and as `check_levels` does.
    """

    history: int
    leads: tuple[int, ...]
    variables: int = 1
    futures: int = 0
    background: bool = False
    guess: bool = False
    aged: int = 0
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        if list(self.leads) != sorted(set(self.leads)) or min(self.leads, default=0) < 1:
            raise InputError(f"leads: {list(self.leads)}; expected whole steps from 1 on, rising")
        check_levels(self.levels)
        if self.aged < 0 or (self.aged and self.history * self.variables > 1):
            raise InputError(f"aged: {self.aged}; expected 0, or the longest history of one variable, seen as one step")
        _ = self.layout

    @property
    def layout(self) -> Layout:
        return Layout(
            self.history, len(self.leads), self.variables, self.futures, self.background, self.guess, self.aged > 0
        )

    @property
    def outputs(self) -> int:
        """Channels of the answer: quantile after quantile of each lead, and the age where there is one."""
        return len(self.leads) * len(self.levels) + (self.aged > 0)
