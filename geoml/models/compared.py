"""Comparison of two segmentations: one network maps each date, and a change is where the classes differ.

Post-classification comparison, as in Singh: Digital change detection techniques using remotely-sensed data.
International Journal of Remote Sensing 10 (6), 1989, https://doi.org/10.1080/01431168908903939. Here the probabilities
of the two maps are multiplied, as of independent observations, instead of comparing the likeliest classes only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml import models
from geoml.errors import InputError

TASKS = ("change",)
TINY = {"architecture": "segnet", "config": {"channels": [8, 16], "convolutions": [1, 2]}}


def kinds(inner: int) -> int:
    """From-to classes of a map with ``inner`` classes: unchanged, and every ordered pair."""
    return inner * (inner - 1) + 1


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``architecture`` and ``config`` of the segmentation, and its number of classes ``inner``.

    ``classes`` is 2 (unchanged, changed) or ``inner * (inner - 1) + 1`` (unchanged, then from class 0 to 1, 0 to 2, …,
    1 to 0, …). Without ``inner`` it is what ``classes`` says, and 2 where that is 2. ``temperature`` divides the logits
    of each date.
    """

    bands: int
    architecture: str
    config: dict[str, object] = field(default_factory=dict)
    dates: int = 2
    classes: int = 2
    inner: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise InputError(f"bands: {self.bands}; expected at least one")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature: {self.temperature}; expected a number above zero")
        if self.dates != 2:
            raise InputError(f"dates: {self.dates}; expected 2")
        if self.inner is not None and not 2 <= self.inner <= 255:
            raise InputError(f"inner: {self.inner}; expected at least two classes to compare, at most 255")
        if self.config.get("encoder_weights") is not None:
            raise InputError("config.encoder_weights: expected none; compare a trained package instead")
        if self.classes not in (2, kinds(self.count)):
            expected = f"2, or {kinds(self.count)} for {self.count} classes on each date"
            raise InputError(f"classes: {self.classes}; expected {expected}")
        if self.architecture == "compared" or "segmentation" not in models.find(self.architecture).TASKS:
            raise InputError(f"architecture: {self.architecture!r}; expected a model of segmentation")

    @property
    def count(self) -> int:
        """Classes of the map of each date."""
        if self.inner is not None:
            return self.inner
        return next((k for k in range(2, self.classes + 1) if kinds(k) >= self.classes), 2)


class Compared(nn.Module):
    """Logarithms of the probabilities of changes for any height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        fixed = models.fixed_by_data(config.architecture, config.bands, 1, config.count)
        self.net = models.build(config.architecture, {**config.config, **fixed})
        self.stride = self.net.stride
        self.temperature = config.temperature
        self.bands, self.binary = config.bands, config.classes == 2
        pairs = [(i, j) for i in range(config.count) for j in range(config.count) if i != j]
        self.before: Tensor
        self.after: Tensor
        # of the config, so not part of the weights
        self.register_buffer("before", torch.tensor([i for i, _ in pairs]), persistent=False)
        self.register_buffer("after", torch.tensor([j for _, j in pairs]), persistent=False)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        both = self.net(torch.cat([x[:, : self.bands], x[:, self.bands :]]))
        first, second = F.log_softmax(both.float() / self.temperature, dim=1).chunk(2)
        unchanged = torch.logsumexp(first + second, dim=1, keepdim=True)
        changed = _differ(first, second) if self.binary else first[:, self.before] + second[:, self.after]
        return torch.cat([unchanged, changed], dim=1)


def _differ(
    first: Float[Tensor, "batch class y x"], second: Float[Tensor, "batch class y x"]
) -> Float[Tensor, "batch 1 y x"]:
    """Logarithm of the probability of two classes that differ, of the logarithms on each date.

    Class by class: all pairs at once would take K * K layers of memory, and 1 - P(the same) has no digits near 0.
    """
    parts = []
    for k in range(first.shape[1]):
        others = torch.cat([second[:, :k], second[:, k + 1 :]], dim=1)
        parts.append(first[:, k] + torch.logsumexp(others, dim=1))
    return torch.logsumexp(torch.stack(parts, dim=1), dim=1, keepdim=True)


build = Compared
