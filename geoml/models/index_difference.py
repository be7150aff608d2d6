"""Difference of a normalised index, (a - b) / (a + b) of two bands, above Otsu's threshold: NDVI, NBR, NDWI.

Nelson: Detecting forest canopy change due to insect activity using Landsat MSS. Photogrammetric Engineering and Remote
Sensing 49 (9), 1983 (NDVI). Key, Benson: Landscape Assessment, USDA RMRS-GTR-164, 2006,
https://doi.org/10.2737/RMRS-GTR-164 (NBR). McFeeters: The use of the Normalized Difference Water Index, International
Journal of Remote Sensing 17 (7), 1996, https://doi.org/10.1080/01431169608948714 (NDWI). Differences are relative to
their median over the region: a shift everywhere due to season, haze or sensor is not a change, as long as most of the
region has not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError
from geoml.nn import thresholded
from geoml.nn.thresholded import PairConfig, Thresholded

TASKS = ("change",)
TINY: dict[str, object] = {}

OTHER = 30.0
"""Log odds between gain and loss: the sign leaves no doubt."""


@dataclass(frozen=True)
class Config(PairConfig):
    """Arguments of `build`: positions of a (``first``) and b (``second``) among the bands.

    Two classes: the absolute difference. Three: class 1 is a gain of the index and class 2 a loss, with one threshold.
    A single band is taken as the index itself.
    """

    first: int = 0
    second: int = 1
    class_counts: ClassVar[tuple[int, ...]] = (2, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, place in (("first", self.first), ("second", self.second)):
            if self.bands > 1 and not 0 <= place < self.bands:
                raise InputError(f"{name}: {place}; expected the position of a band, below {self.bands}")
        if self.first == self.second:
            raise InputError(f"second: {self.second}, as first; expected another band")


class IndexDifference(Thresholded):
    """(B, 2 * bands, H, W) physical values to (B, classes, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.first, self.second, self.signed = config.first, config.second, config.classes == 3
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(()))

    def index(self, x: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch y x"]:
        """Index in -1..1 of one date; 0 where both bands are 0."""
        if self.bands == 1:
            return x[:, 0]
        a, b = x[:, self.first], x[:, self.second]
        total = a + b
        return ((a - b) / torch.where(total == 0, 1.0, total)).clamp(-1.0, 1.0)

    def difference(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """Index of the second date less that of the first, less the centre."""
        return self.index(x[:, self.bands :]) - self.index(x[:, : self.bands]) - self.centre

    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """Absolute difference of the index."""
        return self.difference(x).abs()

    def measure(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Take the centre: the median of the differences, of an even number the mean of the middle two."""
        difference = self.difference(pixels[:, :, None, None])
        self.centre.copy_((difference.median() - (-difference).median()) / 2)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        if not self.signed:
            return super().forward(x)
        rise, up = self.odds(x), self.difference(x.float()) > 0
        gain, loss = torch.where(up, rise, rise - OTHER), torch.where(up, rise - OTHER, rise)
        return torch.stack([torch.zeros_like(rise), gain, loss], dim=1)


build = IndexDifference
calibrate = thresholded.calibrate
