"""Change vector analysis: the length of the vector between the spectra of two dates, above Otsu's threshold.

Malila: Change Vector Analysis: An Approach for Detecting Forest Changes with Landsat. LARS Symposia, 1980,
https://docs.lib.purdue.edu/lars_symp/385. Bovolo, Bruzzone: A Theoretical Framework for Unsupervised Change Detection
Based on Change Vector Analysis in the Polar Domain. IEEE TGRS 45 (1), 2007, https://doi.org/10.1109/TGRS.2006.885408.
Each band of each date is standardised by its own mean and deviation.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from geoml.nn import thresholded
from geoml.nn.thresholded import PairConfig, Standardised

TASKS = ("change",)
TINY: dict[str, object] = {}
Config = PairConfig


class ChangeVector(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """Euclidean length of the change vector, in standard deviations."""
        return self.difference(x).square().sum(dim=1).sqrt()


build = ChangeVector
calibrate = thresholded.calibrate
