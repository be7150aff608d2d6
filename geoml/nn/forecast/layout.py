"""The channels of a forecast: what a model of one sees of every place, on a grid or at stations alike.

``x`` is (B, channel, y, x), normalised by the card, 0 where nothing is known; stations lie along x, y is 1. In order:

==============  ===========================  =====================================================================
``history``     history * variables          steps up to the reference time, the earliest first; of each the target,
                                             then the other variables
``past``        history, if ``background``   climatology of the target at those steps
``background``  leads, if ``background``     climatology of the target at the leads
``guess``       leads, if ``guess``          what a simple method says: the advected frame, a ridge regression
``future``      leads * futures              known in advance at the leads: hour, day of year, a weather forecast
==============  ===========================  =====================================================================

A model answers with (B, leads * quantiles, y, x), lead by lead, in the normalised unit of the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoml.errors import InputError


@dataclass(frozen=True)
class ForecastWindow:
    """The channels of a batch by their meaning; ``known`` is True where a step has data."""

    history: Float[Tensor, "batch step variable y x"]
    known: Bool[Tensor, "batch step variable y x"]
    past: Float[Tensor, "batch step y x"] | None
    background: Float[Tensor, "batch lead y x"] | None
    guess: Float[Tensor, "batch lead y x"] | None
    future: Float[Tensor, "batch lead feature y x"]

    def last(self) -> tuple[Float[Tensor, "batch y x"], Bool[Tensor, "batch y x"]]:
        """The latest known value of the target, 0 where there is none, and where there is one."""
        value, known = self.history[:, 0, 0], self.known[:, 0, 0]
        for step in range(1, self.history.shape[1]):
            seen = self.known[:, step, 0]
            value, known = torch.where(seen, self.history[:, step, 0], value), known | seen
        return value, known


@dataclass(frozen=True)
class Layout:
    """How many channels of each kind there are. Raises InputError for fewer than one step, variable or lead."""

    history: int
    leads: int
    variables: int = 1
    futures: int = 0
    background: bool = False
    guess: bool = False

    def __post_init__(self) -> None:
        if min(self.history, self.leads, self.variables) < 1 or self.futures < 0:
            raise InputError(f"forecast: {self}; expected at least one step, lead and variable")

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Channels of history, past, background, guess and future."""
        return (
            self.history * self.variables,
            self.history * self.background,
            self.leads * self.background,
            self.leads * self.guess,
            self.leads * self.futures,
        )

    @property
    def channels(self) -> int:
        return sum(self.sizes)

    def split(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> ForecastWindow:
        """By meaning. ``looks`` are of each step, or of each variable of each step; None: everything is known.

        Raises InputError for another number of channels or looks.
        """
        if x.shape[1] != self.channels:
            raise InputError(f"forecast: {x.shape[1]} channels; expected {self.channels} ({self})")
        history, past, background, guess, future = torch.split(x, list(self.sizes), dim=1)
        shape = (self.history, self.variables)
        if looks is None:
            known = torch.ones_like(history, dtype=torch.bool).unflatten(1, shape)
        elif looks.shape[1] == self.history:
            known = looks[:, :, None].expand(-1, -1, self.variables, -1, -1)
        elif looks.shape[1] == self.history * self.variables:
            known = looks.unflatten(1, shape)
        else:
            raise InputError(f"forecast: {looks.shape[1]} looks; expected one of each of {self.history} steps")
        return ForecastWindow(
            history.unflatten(1, shape),
            known,
            past if self.background else None,
            background if self.background else None,
            guess if self.guess else None,
            future.unflatten(1, (self.leads, self.futures)),
        )
