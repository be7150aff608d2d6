"""The channels of a forecast: what a model of one sees of every place, on a grid or at stations alike.

``x`` is (B, channel, y, x), normalised by the card, 0 where nothing is known; stations lie along x, y is 1. In order:

==============  ===========================  =====================================================================
``history``     history * variables          steps up to the reference time, the earliest first; of each the target,
                                             then the other variables
``age``         1, if ``aged``               how many steps old the target is: history is its last known value then
``past``        history, if ``background``   climatology of the target at those steps
``background``  leads, if ``background``     climatology of the target at the leads
``guess``       leads, if ``guess``          what a simple method says: the advected frame, a ridge regression
``future``      leads * futures              known in advance at the leads: hour, day of year, a weather forecast
==============  ===========================  =====================================================================

A model answers with (B, leads * quantiles, y, x), lead by lead, in the normalised unit of the target, and with
`UNKNOWN` where it has nothing to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from geoml.errors import InputError

UNKNOWN = -1e30
"""Raw output of a place that nothing is said of; it stays below `SAID` whatever is added to it."""
SAID = -1e29


@dataclass(frozen=True)
class ForecastWindow:
    """The channels of a batch by their meaning; those that end in ``known`` are True where there is data."""

    history: Float[Tensor, "batch step variable y x"]
    known: Bool[Tensor, "batch step variable y x"]
    age: Float[Tensor, "batch 1 y x"] | None
    past: Float[Tensor, "batch step y x"] | None
    background: Float[Tensor, "batch lead y x"] | None
    background_known: Bool[Tensor, "batch lead y x"] | None
    guess: Float[Tensor, "batch lead y x"] | None
    guess_known: Bool[Tensor, "batch lead y x"] | None
    future: Float[Tensor, "batch lead feature y x"]

    def last(self) -> tuple[Float[Tensor, "batch y x"], Bool[Tensor, "batch y x"]]:
        """The latest known value of the target, 0 where there is none, and where there is one."""
        value, known = self.history[:, 0, 0], self.known[:, 0, 0]
        for step in range(1, self.history.shape[1]):
            seen = self.known[:, step, 0]
            value, known = torch.where(seen, self.history[:, step, 0], value), known | seen
        return value, known

    def start(self, leads: int) -> tuple[Float[Tensor, "batch lead y x"], Bool[Tensor, "batch lead y x"]]:
        """What a learnt model adds to: the guess, else the latest known value; and where there is one."""
        if self.guess is not None and self.guess_known is not None:
            return self.guess, self.guess_known
        value, known = self.last()
        return value[:, None].expand(-1, leads, -1, -1), known[:, None].expand(-1, leads, -1, -1)


@dataclass(frozen=True)
class Layout:
    """How many channels of each kind there are. Raises InputError for fewer than one step, variable or lead."""

    history: int
    leads: int
    variables: int = 1
    futures: int = 0
    background: bool = False
    guess: bool = False
    aged: bool = False

    def __post_init__(self) -> None:
        if min(self.history, self.leads, self.variables) < 1 or self.futures < 0:
            raise InputError(f"forecast: {self}; expected at least one step, lead and variable")

    @property
    def sizes(self) -> tuple[int, int, int, int, int, int]:
        """Channels of history, age, past, background, guess and future."""
        return (
            self.history * self.variables,
            int(self.aged),
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
        """By meaning. ``looks`` are of each step, of each variable of each step, or of every channel; None: everything
        is known.

        Raises InputError for another number of channels or looks.
        """
        if x.shape[1] != self.channels:
            raise InputError(f"forecast: {x.shape[1]} channels; expected {self.channels} ({self})")
        history, age, past, background, guess, future = torch.split(x, list(self.sizes), dim=1)
        known, background_known, guess_known = self._known(history, background, guess, looks)
        steps: Tensor = torch.unflatten(history, 1, (self.history, self.variables))
        ahead: Tensor = torch.unflatten(future, 1, (self.leads, self.futures))
        return ForecastWindow(
            steps,
            known,
            age if self.aged else None,
            past if self.background else None,
            background if self.background else None,
            background_known if self.background else None,
            guess if self.guess else None,
            guess_known if self.guess else None,
            ahead,
        )

    def _known(
        self, history: Tensor, background: Tensor, guess: Tensor, looks: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, history, variables, y, x), and twice (B, leads, y, x), bool."""
        shape, most = (self.history, self.variables), self.history * self.variables
        usual, every = torch.ones_like(background, dtype=torch.bool), torch.ones_like(guess, dtype=torch.bool)
        if looks is None:
            looks = torch.ones_like(history, dtype=torch.bool)
        elif looks.shape[1] == self.channels:
            usual, every = torch.split(looks, list(self.sizes), dim=1)[3:5]
            looks = looks[:, :most]
        if looks.shape[1] == self.history:
            return looks[:, :, None].expand(-1, -1, self.variables, -1, -1), usual, every
        if looks.shape[1] != most:
            raise InputError(f"forecast: {looks.shape[1]} looks; expected one of each of {self.history} steps")
        return torch.unflatten(looks, 1, shape), usual, every
