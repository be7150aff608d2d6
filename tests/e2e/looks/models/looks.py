"""A model of a series whose answer is counted by hand: a class is a number of looks, a mean, a month or a longitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

TASKS = ("seasons",)
TINY = {"bands": 1, "dates": 3, "classes": 13}
WEST, STEP = -54.89, 0.004
"""Of classes by longitude, degrees."""


@dataclass(frozen=True)
class Config:
    bands: int
    dates: int
    classes: int
    says: Literal["count", "mean", "month", "east"] = "count"


class Looks(nn.Module):
    """(B, dates * bands, H, W) to logits that are sure of one class."""

    stride = 1
    radius = 0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, x: Tensor, looks: Tensor | None = None, months: Tensor | None = None, place: Tensor | None = None
    ) -> Tensor:
        c = self.config
        first = x.unflatten(1, (c.dates, c.bands))[:, :, 0]
        known = torch.ones_like(first, dtype=torch.bool) if looks is None else looks
        assert not first.masked_select(~known).any(), "what is not known is 0"
        if c.says == "month":
            number = torch.zeros_like(first[:, 0]) if months is None else self._first(known, months)
        elif c.says == "east":
            number = torch.zeros_like(first[:, 0]) if place is None else ((place[:, 0] - WEST) / STEP).floor()
        else:
            number = known.sum(1).float()
            if c.says == "mean":
                number = (first.sum(1) / number.clamp_min(1) + 0.5).floor()
        classes = torch.arange(c.classes, device=x.device)[:, None, None]
        return 40.0 * (number[:, None] == classes)

    def _first(self, known: Tensor, months: Tensor) -> Tensor:
        index = known.int().argmax(1)
        return months.gather(1, index.flatten(1)).view_as(index).float()


def build(config: Config) -> nn.Module:
    return Looks(config)
