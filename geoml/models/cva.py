"""Change vector analysis: the length of the vector between the spectra of two dates, above Otsu's threshold.

Malila: Change Vector Analysis: An Approach for Detecting Forest Changes with Landsat. LARS Symposia, 1980,
https://docs.lib.purdue.edu/lars_symp/385. Bovolo, Bruzzone: A Theoretical Framework for Unsupervised Change Detection
Based on Change Vector Analysis in the Polar Domain. IEEE TGRS 45 (1), 2007, https://doi.org/10.1109/TGRS.2006.885408.
Each band of each date is standardised by its own mean and deviation.
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


class ChangeVector(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def magnitude(self, x: Tensor) -> Tensor:
        """(B, H, W) Euclidean length of the change vector, in standard deviations."""
        return self.difference(x).square().sum(dim=1).sqrt()


def build(config: Config) -> ChangeVector:
    """The model, not calibrated."""
    return ChangeVector(config)


def calibrate(config: Config, pixels: Tensor) -> dict[str, Tensor]:
    """Its state from (N, 2 * bands) float32 valid pixels. Raises InputError or DataError as `checked`."""
    pixels, module = checked(config, pixels), build(config)
    module.measure(pixels)
    return settled(module, pixels)
