"""Change of a pair without training: a magnitude of change for each pixel, and a threshold taken from the data.

What such a model knows is estimated on the pixels at hand and kept in buffers; a fresh one is not ``ready``. Its score
is ``sigmoid(slope * (magnitude - threshold))``, so the threshold lies at one half. It says on which side of the split a
pixel lies and how far from it, and is not a probability of change: the split is there whether anything changed or not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from geoml.errors import DataError, InputError
from geoml.nn.empirical_null import null_above
from geoml.nn.otsu import otsu
from geoml.texts import percent

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
    class_counts: ClassVar[tuple[int, ...]] = (2,)
    """Numbers of classes that the model can tell apart."""

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise InputError(f"bands: {self.bands}; expected at least one")
        if self.dates != 2:
            raise InputError(f"dates: {self.dates}; expected 2")
        if self.classes not in self.class_counts:
            raise InputError(f"classes: {self.classes}; expected {' or '.join(map(str, self.class_counts))}")


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
    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """How much each pixel changed."""

    @abstractmethod
    def measure(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Take from valid pixels what `magnitude` needs to know."""

    def settle(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Take Otsu's threshold of the magnitudes, and the slope of two normal classes of equal variance.

        Where nothing varies the threshold is one above all.
        """
        magnitude = self.magnitude(pixels.T[None, :, :, None]).flatten()
        low, high = float(magnitude.min()), float(magnitude.max())
        threshold, slope = high + 1, STEEPEST
        if high - low > FLAT:
            split = otsu(magnitude)
            threshold, slope = split.threshold, split.slope(STEEPEST)
        self.threshold.fill_(threshold)
        self.slope.fill_(slope)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        rise = self.odds(x)
        return torch.stack([torch.zeros_like(rise), rise], dim=1)

    def odds(self, x: Float[Tensor, "batch channel y x"]) -> Float32[Tensor, "batch y x"]:
        """Log odds of change."""
        with torch.autocast(x.device.type, enabled=False):  # a difference of two like values needs its digits
            return self.slope * (self.magnitude(x.float()) - self.threshold)

    @torch.no_grad()
    def doubt(self, pixels: Float[Tensor, "pixel channel"]) -> str:
        """What speaks against the split on the pixels that it was taken from; empty: nothing."""
        magnitude = self.magnitude(pixels.float().T[None, :, :, None]).flatten()
        above = float((magnitude > self.threshold).float().mean())
        null = null_above(magnitude, float(self.threshold)) if above else 0.0
        if null <= ONE_MODE * above:
            return ""
        return (
            f"the magnitude of change has one mode: {percent(above)} of the pixels lie above the threshold, and "
            f"{percent(null)} would if nothing had changed; the split shows where the dates differ most, not what has "
            "changed"
        )


class Standardised(Thresholded):
    """The bands of each date less their mean, over their standard deviation: a change of gain or offset is none."""

    def __init__(self, config: PairConfig) -> None:
        super().__init__(config)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(2 * config.bands))
        self.register_buffer("std", torch.ones(2 * config.bands))

    def standardised(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """All bands in standard deviations."""
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def difference(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch band y x"]:
        """Second date less first, in standard deviations."""
        z = self.standardised(x)
        return z[:, self.bands :] - z[:, : self.bands]

    def measure(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Take mean and deviation of each band; one that is constant keeps a deviation of 1."""
        # date by date: of equal dates the sums have to be equal to the last digit
        dates = [part.double().contiguous() for part in (pixels[:, : self.bands], pixels[:, self.bands :])]
        self.mean.copy_(torch.cat([part.mean(0) for part in dates]))
        std = torch.cat([part.std(0, correction=0) for part in dates])
        # float32 pixels of a constant band may deviate by a rounding of their mean
        rounding = 1e-6 * self.mean.abs()
        self.std.copy_(torch.where(std > rounding, std, 1.0))


@torch.no_grad()
def calibrate(module: Thresholded, pixels: Float[Tensor, "pixel channel"]) -> None:
    """Estimate the state of a fresh module from valid pixels in physical values, those of both dates side by side.

    Raises InputError for another number of channels, DataError for too few pixels and for values that are not finite.
    """
    channels = 2 * module.bands
    if pixels.shape[1] != channels:
        raise InputError(f"pixels: shape {tuple(pixels.shape)}; expected (N, {channels})")
    if len(pixels) < (least := max(LEAST, 10 * channels)):
        raise DataError(f"calibration: {len(pixels)} valid pixels; at least {least} are needed to estimate a threshold")
    if not bool(torch.isfinite(pixels).all()):
        raise DataError("calibration: pixels with values that are not finite; such pixels are not valid")
    module.measure(pixels.float())
    module.settle(pixels.float())
    module.ready.fill_(True)
