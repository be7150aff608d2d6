"""Image differencing: the mean absolute difference of the bands of two dates, above Otsu's threshold.

Singh: Digital change detection techniques using remotely-sensed data. International Journal of Remote Sensing 10 (6),
1989, https://doi.org/10.1080/01431168908903939. Each band of each date is standardised by its own mean and deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from geoml.nn.thresholded import PairConfig, Standardised, checked, settled

TASKS = ("change",)
TINY: dict[str, object] = {}


@dataclass(frozen=True)
class Config(PairConfig):
    """Arguments of `build`."""


class ImageDifference(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def magnitude(self, x: Tensor) -> Tensor:
        """(B, H, W) mean absolute difference over the bands, in standard deviations."""
        return self.difference(x).abs().mean(dim=1)


def build(config: Config) -> ImageDifference:
    """The model, not calibrated."""
    return ImageDifference(config)


def calibrate(config: Config, pixels: Tensor) -> dict[str, Tensor]:
    """Its state from (N, 2 * bands) float32 valid pixels. Raises InputError or DataError as `checked`."""
    pixels, module = checked(config, pixels), build(config)
    module.measure(pixels)
    return settled(module, pixels)
