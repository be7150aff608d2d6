"""Image differencing: the mean absolute difference of the bands of two dates, above Otsu's threshold.

Singh: Digital change detection techniques using remotely-sensed data. International Journal of Remote Sensing 10 (6),
1989, https://doi.org/10.1080/01431168908903939. Each band of each date is standardised by its own mean and deviation.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from geoml.nn import thresholded
from geoml.nn.thresholded import PairConfig, Standardised

TASKS = ("change",)
TINY: dict[str, object] = {}
Config = PairConfig


class ImageDifference(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """Mean absolute difference over the bands, in standard deviations."""
        return self.difference(x).abs().mean(dim=1)


build = ImageDifference
calibrate = thresholded.calibrate
