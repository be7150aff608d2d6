"""Forecasts without training: a centre in closed form, and around it the quantiles of its errors by lead.

Where the age of what was last known is among the channels, errors grow with the distance, which is age plus lead, and
not with the lead alone: what is estimated then stands at distances of 1, 2, 4, 8, … steps, with straight lines between.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from geoml.errors import NothingFound
from geoml.nn.forecast.config import ForecastConfig
from geoml.nn.forecast.layout import UNKNOWN, ForecastWindow

LEAST = 100
"""Known errors from which on a distance has quantiles of its own; of fewer it has those of the next one that has."""


class EstimatedForecast(nn.Module, ABC):
    """The parts that all simple methods share. ``offsets`` are of each lead and level, in the normalised unit; of
    distances in place of leads where there is an age, and ``reach`` is the longest one in training then.

    Nothing is said where nothing was known, where there is no climatology, and beyond the reach.
    """

    stride = 1
    exact = False
    """Whether the median is the centre itself, and not moved by the median error."""
    offsets: Tensor
    reach: Tensor

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__()
        self.config = config
        self.knots = 1 + math.ceil(math.log2(config.aged + config.leads[-1])) if config.aged else 0
        self.register_buffer("offsets", torch.zeros(self.knots or len(config.leads), len(config.levels)))
        if self.knots:
            self.register_buffer("reach", torch.tensor(0.0))

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
        """Take all that is estimated from windows of training time at once; NaN in ``target`` is not known.

        Raises NothingFound for a lead with fewer known errors than the outermost quantile needs.
        """
        window = self.config.layout.split(x, looks)
        target = torch.where(self.said(window), target, torch.nan)
        self.fit_centre(window, target)
        self.fit_spread(window, target)

    def fit_spread(self, window: ForecastWindow, target: Float[Tensor, "batch lead y x"]) -> None:
        """Take the quantiles of the errors, and how far they reach."""
        error = target - self.centre(window)
        if not self.knots:
            for lead, ahead in enumerate(self.config.leads):
                count, least = int(torch.isfinite(error[:, lead]).sum()), math.ceil(1 / self.config.levels[0])
                if count < least:  # the quantiles would be those of no error, as if it were sure
                    raise NothingFound(
                        f"leads: {count} values are known {ahead} steps after the times that are fitted on; the"
                        f" quantile {self.config.levels[0]:g} needs {least}"
                    )
                self._take(lead, error[:, lead])
            return
        distance = self.distance(window)
        near = torch.where(torch.isfinite(error), self._position(distance).round(), -1.0)
        self.reach = torch.where(near >= 0, distance, 0.0).amax()
        counts = [int((near == knot).sum()) for knot in range(self.knots)]
        own = [knot for knot, count in enumerate(counts) if count >= LEAST] or [counts.index(max(counts))]
        for knot in own:
            self._take(knot, error[near == knot])
        for knot in range(self.knots):
            near_by = sorted((abs(knot - other), -other) for other in own)
            self.offsets[knot] = self.offsets[-near_by[0][1]]

    def _take(self, row: int, error: Float[Tensor, "*shape"]) -> None:
        levels = torch.tensor(self.config.levels, dtype=torch.float64)
        known = error[torch.isfinite(error)].double().sort().values
        if len(known):
            at = levels * (len(known) - 1)
            low = known[at.floor().long()]
            offsets = low + (known[at.ceil().long()] - low) * at.frac()
            if self.exact or self.knots:  # errors of the few days that were clear are alike: their median is theirs
                offsets = torch.where(levels < 0.5, offsets.clamp(max=0), offsets.clamp(min=0) * (levels > 0.5))
            self.offsets[row] = offsets.to(self.offsets.dtype)

    def distance(self, window: ForecastWindow) -> Float[Tensor, "batch lead y x"]:
        """Steps from what was last known to each lead."""
        assert window.age is not None
        leads = torch.tensor(self.config.leads, dtype=window.age.dtype, device=window.age.device)
        return window.age.round() + leads[:, None, None]

    def _position(self, distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return distance.clamp(1, 2 ** (self.knots - 1)).log2()

    def along(self, table: Float[Tensor, " knot"], distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Values at distances, of those at 1, 2, 4, 8, … steps."""
        at = self._position(distance)
        below = at.floor().long().clamp(max=self.knots - 2)
        share = at - below
        return table[below] * (1 - share) + table[below + 1] * share

    def said(self, window: ForecastWindow) -> Bool[Tensor, "batch lead y x"]:
        """Where there is something to say."""
        said = window.known.any((1, 2))[:, None].expand(-1, len(self.config.leads), -1, -1)
        if not self.knots:
            said = torch.ones_like(said)
        return said if window.background_known is None else said & window.background_known

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch look y x"] | None = None
    ) -> Float[Tensor, "batch output y x"]:
        window = self.config.layout.split(x, looks)
        centre, said = self.centre(window), self.said(window)
        if not self.knots:
            values = centre[:, :, None] + self.offsets[None, :, :, None, None]
            return torch.where(said[:, :, None], values, UNKNOWN).flatten(1, 2)
        distance = self.distance(window)
        said = said & (distance <= self.reach)
        each = [centre + self.along(offsets, distance) for offsets in self.offsets.T]
        values = torch.where(said[:, :, None], torch.stack(each, 2), UNKNOWN).flatten(1, 2)
        assert window.age is not None
        return torch.cat([values, torch.where(window.known[:, :, 0], window.age.round(), UNKNOWN)], 1)
