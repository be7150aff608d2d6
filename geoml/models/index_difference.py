"""Difference of a normalised index, (a - b) / (a + b) of two bands, above Otsu's threshold: NDVI, NBR, NDWI.

Nelson: Detecting forest canopy change due to insect activity using Landsat MSS. Photogrammetric Engineering and Remote
Sensing 49 (9), 1983 (NDVI). Key, Benson: Landscape Assessment, USDA RMRS-GTR-164, 2006,
https://doi.org/10.2737/RMRS-GTR-164 (NBR). McFeeters: The use of the Normalized Difference Water Index, International
Journal of Remote Sensing 17 (7), 1996, https://doi.org/10.1080/01431169608948714 (NDWI). The difference is taken from
its median over the region: what season, haze and sensor do everywhere is no change, as long as most has not changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoml.errors import InputError
from geoml.nn.thresholded import PairConfig, Thresholded, checked, settled

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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first", "second"):
            if self.bands > 1 and not 0 <= getattr(self, name) < self.bands:
                raise InputError(f"{name}: {getattr(self, name)}; expected the position of a band, below {self.bands}")
        if self.first == self.second:
            raise InputError(f"second: {self.second}, as first; expected another band")

    @classmethod
    def kinds(cls) -> tuple[int, ...]:
        """Changed or not, or unchanged, gain, loss."""
        return (2, 3)


class IndexDifference(Thresholded):
    """(B, 2 * bands, H, W) physical values to (B, classes, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.first, self.second, self.signed = config.first, config.second, config.classes == 3
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(()))

    def index(self, x: Tensor) -> Tensor:
        """(B, H, W) index in -1..1 of one date's (B, bands, H, W); 0 where both bands are 0."""
        if self.bands == 1:
            return x[:, 0]
        a, b = x[:, self.first], x[:, self.second]
        total = a + b
        return ((a - b) / torch.where(total == 0, 1.0, total)).clamp(-1.0, 1.0)

    def difference(self, x: Tensor) -> Tensor:
        """(B, H, W) index of the second date less that of the first, less the centre."""
        return self.index(x[:, self.bands :]) - self.index(x[:, : self.bands]) - self.centre

    def magnitude(self, x: Tensor) -> Tensor:
        """(B, H, W) absolute difference of the index."""
        return self.difference(x).abs()

    def forward(self, x: Tensor) -> Tensor:
        if not self.signed:
            return super().forward(x)
        rise, up = self.odds(x), self.difference(x.float()) > 0
        gain, loss = torch.where(up, rise, rise - OTHER), torch.where(up, rise - OTHER, rise)
        return torch.stack([torch.zeros_like(rise), gain, loss], dim=1)


def build(config: Config) -> IndexDifference:
    """The model, not calibrated."""
    return IndexDifference(config)


def calibrate(config: Config, pixels: Tensor) -> dict[str, Tensor]:
    """Its state from (N, 2 * bands) float32 valid pixels. Raises InputError or DataError as `checked`."""
    pixels, module = checked(config, pixels), build(config)
    found = module.difference(pixels[:, :, None, None])
    module.centre.copy_((found.median() - (-found).median()) / 2)  # of an even number the mean of the middle two
    return settled(module, pixels)
