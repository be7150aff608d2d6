"""Spectral: a linear model of each pixel's logarithmic spectrum and of its slopes.

The logarithm turns illumination into an offset, which slopes remove: derivative spectroscopy, Tsai and Philpot,
Derivative Analysis of Hyperspectral Data. 1998, https://doi.org/10.1016/S0034-4257(98)00032-7, here of the line through
the neighbours in wavelength. Both are standardised over the training data, and one penalised multinomial logistic
regression is fitted to them, whose optimum is found directly. Neighbours in space do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError

TASKS = ("segmentation",)
TINY: dict[str, object] = {"reach": 2}
PENALTIES = (0.01, 0.003, 0.001)
"""Of half the squared weights beside the mean cross entropy; 1 / (C x pixels) of scikit-learn's C."""
ROUNDS = 100
"""Of L-BFGS at most."""

DARK = 0.1
"""Of the mean reflectance, that is added before the logarithm: darkness is mostly noise."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: channels, and how many neighbours in wavelength a slope has on either side."""

    bands: int
    classes: int
    reach: int = 5

    def __post_init__(self) -> None:
        if min(self.bands, self.classes, self.reach) < 1:
            raise InputError(f"spectral: {self}; expected at least one of each")


class Spectral(nn.Module):
    """Logits for any height and width, of standardised bands that `describe` told about."""

    stride = 1
    radius = 0
    mean: Tensor
    std: Tensor
    order: Tensor
    dark: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.reach = config.reach
        self.register_buffer("mean", torch.zeros(config.bands))
        self.register_buffer("std", torch.ones(config.bands))
        self.register_buffer("order", torch.arange(config.bands))
        self.register_buffer("dark", torch.tensor(DARK))
        self.norm = nn.BatchNorm2d(2 * config.bands, affine=False)
        self.head = nn.Conv2d(2 * config.bands, config.classes, 1)

    def describe(self, mean: Sequence[float], std: Sequence[float], wavelengths: Sequence[float | None]) -> None:
        """How the input was standardised, of which logarithms are taken, and where each band lies, nm.

        Without all wavelengths bands are neighbours as they are listed.
        """
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor(std))
        self.dark.copy_(DARK * self.mean.abs().mean().clamp(min=1e-6))
        known = [w for w in wavelengths if w is not None]
        if len(known) == len(wavelengths):
            self.order.copy_(torch.tensor(known, dtype=torch.float64).argsort(stable=True))

    def solve(self, pixels: Float[Tensor, "pixel channel"], labels: Int[Tensor, " pixel"], penalty: float) -> None:
        """The weights of the least cross entropy and ``penalty``, by L-BFGS, for standardised pixels and their classes.

        Where ``labels`` has no pixel of a class, that one gets less and less likely: it is never the answer.
        """
        with torch.no_grad():
            seen = self.features(pixels.T[None, :, :, None])[0, :, :, 0].T
            mean, variance = seen.mean(0), seen.var(0, correction=0).clamp(min=1e-12)
            seen = (seen - mean) / (variance + self.norm.eps).sqrt()
            self.norm.running_mean, self.norm.running_var = mean, variance
        weights = torch.zeros(self.head.out_channels, seen.shape[1] + 1, requires_grad=True)
        how = torch.optim.LBFGS([weights], max_iter=ROUNDS, history_size=20, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            how.zero_grad()
            logits = seen @ weights[:, :-1].T + weights[:, -1]
            value = F.cross_entropy(logits, labels) + penalty / 2 * weights[:, :-1].square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        with torch.enable_grad():
            how.step(loss)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.head.weight.copy_(weights[:, :-1, None, None])
            assert self.head.bias is not None
            self.head.bias.copy_(weights[:, -1])

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = self.head(self.norm(self.features(x)))
        return logits

    def features(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch feature y x"]:
        """Logarithms of all bands, by wavelength, and then their slopes."""
        value = x.float() * self.std.view(-1, 1, 1) + self.mean.view(-1, 1, 1)
        level = (value.clamp(min=0) + self.dark).log()[:, self.order]
        return torch.cat([level, self.slopes(level)], 1)

    def slopes(self, level: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """Of the line through each band and its neighbours, times a constant; beyond the ends these go on flat."""
        k, count = self.reach, level.shape[1]
        wide = torch.cat([level[:, :1].expand(-1, k, -1, -1), level, level[:, -1:].expand(-1, k, -1, -1)], 1)
        steps = [n * (wide[:, k + n : k + n + count] - wide[:, k - n : k - n + count]) for n in range(1, k + 1)]
        return torch.stack(steps).mean(0)


build = Spectral
