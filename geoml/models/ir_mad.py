"""IR-MAD as a model: the variates of `geoml.cube.irmad`, and a threshold of how far they are from none.

Nielsen 2007, https://doi.org/10.1109/TIP.2006.888195. Otsu's threshold is taken of the root of the chi-squared
statistic: the statistic itself spreads so far among changed pixels that a threshold of it would cut through them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoml.cube.irmad import reweighted
from geoml.nn.thresholded import PairConfig, Standardised, checked, settled

TASKS = ("change",)
TINY: dict[str, object] = {}

MOST = 250_000
"""Pixels that are reweighted; more would only take longer."""


@dataclass(frozen=True)
class Config(PairConfig):
    """Arguments of `build`."""


class IRMAD(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.transform: Tensor
        both = torch.eye(config.bands)
        self.register_buffer("transform", torch.cat([both, -both], dim=1))

    def magnitude(self, x: Tensor) -> Tensor:
        """(B, H, W) root of the sum of squared MAD variates, each over its deviation among unchanged pixels."""
        variates = torch.einsum("vc,bchw->bvhw", self.transform, self.standardised(x))
        return variates.square().sum(dim=1).sqrt()


def build(config: Config) -> IRMAD:
    """The model, not calibrated."""
    return IRMAD(config)


@torch.no_grad()
def calibrate(config: Config, pixels: Tensor) -> dict[str, Tensor]:
    """Its state from (N, 2 * bands) float32 valid pixels. Raises InputError or DataError as `checked`."""
    pixels, module = checked(config, pixels), build(config)
    module.measure(pixels)
    z = (pixels[:: -(-len(pixels) // MOST)].double() - module.mean) / module.std
    found = reweighted(z.numpy(), config.bands)
    module.mean.add_(module.std * torch.from_numpy(found.mean))
    module.transform.zero_()[: len(found.transform)] = torch.from_numpy(found.transform)
    return settled(module, pixels)
