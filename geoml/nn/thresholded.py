"""Change of a pair without training: a magnitude of change for each pixel, and a threshold taken from the data.

What such a model knows is estimated on the pixels at hand and kept in buffers; a fresh one is not ``ready``. Its score
is ``sigmoid(slope * (magnitude - threshold))``, so the threshold lies at one half. It says on which side of the split a
pixel lies and how far from it, and is no probability of change: the split is there whether anything changed or not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoml.errors import DataError, InputError
from geoml.nn.empirical_null import null_above
from geoml.nn.otsu import otsu

LEAST = 100
"""Pixels that a calibration needs; also ten for each number of a pixel."""
FLAT = 1e-3
"""A magnitude (in deviations, or of an index) that varies by less everywhere is rounding: nothing has changed."""
STEEPEST = 20.0
"""Log odds of the mean of a class at most."""
ONE_MODE = 1 / 3
"""Of what lies above the threshold, the share that would lie there without any change, from which a split says nothing.

On pairs of Landsat and NAIP without change, or nearly, it was 0.38 to 1.7; on pairs with change that a model finds 0.24
at most: docs/change.md."""


@dataclass(frozen=True)
class PairConfig:
    """What the configs of such models begin with: ``bands`` of each of two dates; unchanged and changed."""

    bands: int
    dates: int = 2
    classes: int = 2

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise InputError(f"bands: {self.bands}; expected at least one")
        if self.dates != 2:
            raise InputError(f"dates: {self.dates}; expected 2")
        if self.classes not in self.kinds():
            raise InputError(f"classes: {self.classes}; expected {' or '.join(map(str, self.kinds()))}")

    @classmethod
    def kinds(cls) -> tuple[int, ...]:
        """Numbers of classes that the model can tell apart."""
        return (2,)


class Thresholded(nn.Module, ABC):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; each pixel is looked at alone."""

    stride = 1
    radius = 0

    def __init__(self, config: PairConfig) -> None:
        super().__init__()
        self.bands = config.bands
        self.threshold: Tensor
        self.slope: Tensor
        self.ready: Tensor
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("ready", torch.tensor(False))

    @abstractmethod
    def magnitude(self, x: Tensor) -> Tensor:
        """(B, H, W) how much each pixel of (B, 2 * bands, H, W) float32 changed."""

    def forward(self, x: Tensor) -> Tensor:
        rise = self.odds(x)
        return torch.stack([torch.zeros_like(rise), rise], dim=1)

    def odds(self, x: Tensor) -> Tensor:
        """(B, H, W) float32 log odds of change."""
        with torch.autocast(x.device.type, enabled=False):  # a difference of two like values needs its digits
            return self.slope * (self.magnitude(x.float()) - self.threshold)

    @torch.no_grad()
    def doubt(self, pixels: Tensor) -> str:
        """What is to be said of the split on the (N, 2 * bands) pixels that it was taken from; empty: it stands."""
        magnitude = self.magnitude(pixels.float().T[None, :, :, None]).flatten()
        above = float((magnitude > self.threshold).float().mean())
        null = null_above(magnitude, float(self.threshold)) if above else 0.0
        if null <= ONE_MODE * above:
            return ""
        return (
            f"the magnitude of change has one mode: {above:.1%} of the pixels lie above the threshold, and {null:.1%} "
            "would if nothing had changed; the split shows where the dates differ most, not what has changed"
        )


class Standardised(Thresholded):
    """The bands of each date less their mean, over their standard deviation: a change of gain or offset is none."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__(config)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(2 * config.bands))
        self.register_buffer("std", torch.ones(2 * config.bands))

    def standardised(self, x: Tensor) -> Tensor:
        """(B, 2 * bands, H, W) in standard deviations."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def difference(self, x: Tensor) -> Tensor:
        """(B, bands, H, W) second date less first, in standard deviations."""
        z = self.standardised(x)
        return z[:, self.bands :] - z[:, : self.bands]

    def measure(self, pixels: Tensor) -> None:
        """Take mean and deviation from (N, 2 * bands) pixels; a band that is constant keeps a deviation of 1."""
        # date by date: of equal dates the sums have to be equal to the last digit
        dates = [part.double().contiguous() for part in (pixels[:, : self.bands], pixels[:, self.bands :])]
        self.mean.copy_(torch.cat([part.mean(0) for part in dates]))
        std = torch.cat([part.std(0, correction=0) for part in dates])
        # float32 pixels of a constant band may deviate by a rounding of their mean
        rounding = 1e-6 * self.mean.abs()
        self.std.copy_(torch.where(std > rounding, std, 1.0))


def checked(config: PairConfig, pixels: Tensor) -> Tensor:
    """The (N, 2 * bands) pixels as float32.

    Raises InputError for another shape, DataError for too few pixels and for values that are not finite.
    """
    wide = config.bands * config.dates
    if pixels.ndim != 2 or pixels.shape[1] != wide:
        raise InputError(f"pixels: shape {tuple(pixels.shape)}; expected (N, {wide})")
    if len(pixels) < (least := max(LEAST, 10 * wide)):
        raise DataError(f"calibration: {len(pixels)} valid pixels; at least {least} are needed to estimate a threshold")
    if not bool(torch.isfinite(pixels).all()):
        raise DataError("calibration: pixels with values that are not finite; such pixels are not valid")
    return pixels.float()


@torch.no_grad()
def settled(module: Thresholded, pixels: Tensor) -> dict[str, Tensor]:
    """The complete state of ``module`` with Otsu's threshold of its magnitudes of (N, 2 * bands) float32 pixels.

    The slope is that of two normal classes of equal variance, (above - below) / spread^2, at most such that the odds
    of the mean of a class are exp(`STEEPEST`). Where nothing varies the threshold is one above all.
    """
    magnitude = module.magnitude(pixels.T[None, :, :, None]).flatten()
    low, high = float(magnitude.min()), float(magnitude.max())
    if high - low <= FLAT:
        threshold, slope = high + 1, STEEPEST
    else:
        split = otsu(magnitude)
        gap = split.above - split.below
        steepest = 2 * STEEPEST / gap
        threshold = split.threshold
        slope = min(gap / split.spread**2, steepest) if split.spread > 0 else steepest
    module.threshold.fill_(threshold)
    module.slope.fill_(slope)
    module.ready.fill_(True)
    return {name: value.clone() for name, value in module.state_dict().items()}
