"""Crossing of a threshold of a normalised index: water or not on each date, green or not, burnt or not.

This is the rule behind "water gained" and "water lost": a pixel has changed if its index (a - b) / (a + b) is on one
side of the threshold on the first date and on the other on the second. How far the index moved on one side does not
count. Water is above 0 of NDWI in reflectance: McFeeters, The use of the Normalized Difference Water Index,
International Journal of Remote Sensing 17 (7), 1996, https://doi.org/10.1080/01431169608948714. Without a threshold,
Otsu's threshold of the index of both dates together is used for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from geoml.errors import InputError
from geoml.models import index_difference
from geoml.models.index_difference import IndexDifference
from geoml.nn import thresholded
from geoml.nn.otsu import otsu
from geoml.nn.thresholded import STEEPEST
from geoml.texts import percent

TASKS = ("change",)
TINY: dict[str, object] = {}

EDGE = 1e-3
"""Log odds of a pixel whose index is the threshold itself: it is not above, and the side it is on decides."""
TWO_SIDES = 0.75
"""Of the variance of an index, the share between the sides of Otsu's threshold that a single mode can reach: that of a
uniform distribution."""


@dataclass(frozen=True)
class Config(index_difference.Config):
    """Arguments of `build`: as of `index_difference`, and ``threshold`` of the index; None takes Otsu's of both dates.

    Two classes: crossed or not. Three: class 1 came above the threshold and class 2 fell below. With a ``margin`` the
    index has to come from as far on one side to as far on the other.
    """

    threshold: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise InputError(f"threshold: {self.threshold}; expected a number, or none for Otsu's")
        if not 0 <= self.margin < math.inf:
            raise InputError(f"margin: {self.margin}; expected 0 or more, of the index")


class IndexCrossing(IndexDifference):
    """(B, 2 * bands, H, W) physical values to (B, classes, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.fixed_level, self.margin = config.threshold, config.margin
        self.level: Tensor
        self.register_buffer("level", torch.zeros(()))

    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """How far beyond the margin the nearer date lies where the threshold was crossed; else below 0."""
        near, crossed = self.sides(x)
        return torch.where(crossed, near, -near) - self.margin

    def odds(self, x: Float[Tensor, "batch channel y x"]) -> Float32[Tensor, "batch y x"]:
        """Log odds of a crossing."""
        odds = super().odds(x)
        if self.margin:
            return odds
        _, crossed = self.sides(x.float())
        return odds + torch.where(crossed, EDGE, -EDGE)

    def sides(
        self, x: Float[Tensor, "batch channel y x"]
    ) -> tuple[Float[Tensor, "batch y x"], Bool[Tensor, "batch y x"]]:
        """Distance of the nearer date from the threshold, and whether they lie on different sides of it."""
        before, after = (self.index(part) - self.level for part in (x[:, : self.bands], x[:, self.bands :]))
        return torch.minimum(before.abs(), after.abs()), (before > 0) != (after > 0)

    @torch.no_grad()
    def doubt(self, pixels: Float[Tensor, "pixel channel"]) -> str:
        """That Otsu's threshold separates nothing, where so, on the pixels that it was taken from."""
        index = self.both(pixels)
        total = float(index.var(correction=0))
        if self.fixed_level is not None or not bool(self.sides(pixels.float()[:, :, None, None])[1].any()):
            return ""
        split = otsu(index)
        if (explained := 1 - split.deviation**2 / total) > TWO_SIDES:
            return ""
        return (
            f"the index of both dates has one mode: its threshold of {split.threshold:.2f} explains "
            f"{percent(explained, 0)} of the variance, and two sides would explain more than "
            f"{percent(TWO_SIDES, 0)}; give a threshold"
        )

    def both(self, pixels: Float[Tensor, "pixel channel"]) -> Float64[Tensor, " both"]:
        """Index of either date of N pixels, 2 N numbers."""
        x = pixels.float()[:, :, None, None]
        return torch.cat([self.index(x[:, : self.bands]), self.index(x[:, self.bands :])]).flatten().double()

    def measure(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Nothing: no centre is taken off the index."""

    def settle(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Take the level of the index, and the slope of two normal classes on either side of Otsu's threshold of it."""
        split = otsu(self.both(pixels))
        self.level.fill_(split.threshold if self.fixed_level is None else self.fixed_level)
        self.slope.fill_(split.slope(STEEPEST))


build = IndexCrossing
calibrate = thresholded.calibrate
