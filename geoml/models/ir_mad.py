"""IR-MAD as a model: the variates of `geoml.cube.irmad`, and a threshold on their distance from zero.

Nielsen 2007, https://doi.org/10.1109/TIP.2006.888195. Otsu's threshold is taken of the root of the chi-squared
statistic: the statistic itself spreads so far among changed pixels that a threshold of it would cut through them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.cube.irmad import reweighted
from geoml.nn import thresholded
from geoml.nn.thresholded import PairConfig, Standardised

TASKS = ("change",)
TINY: dict[str, object] = {}
Config = PairConfig

MOST = 250_000
"""Pixels that are reweighted; more would only take longer."""


class IRMAD(Standardised):
    """(B, 2 * bands, H, W) physical values to (B, 2, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.transform: Tensor
        both = torch.eye(config.bands)
        self.register_buffer("transform", torch.cat([both, -both], dim=1))

    def magnitude(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch y x"]:
        """Root of the sum of squared MAD variates, each over its deviation among unchanged pixels."""
        variates = torch.einsum("vc,bchw->bvhw", self.transform, self.standardised(x))
        return variates.square().sum(dim=1).sqrt()

    def measure(self, pixels: Float[Tensor, "pixel channel"]) -> None:
        """Also take the transform to MAD variates, of at most `MOST` pixels."""
        super().measure(pixels)
        z = (pixels[:: -(-len(pixels) // MOST)].double() - self.mean) / self.std
        mad = reweighted(z.numpy(), self.bands)
        self.mean.add_(self.std * torch.from_numpy(mad.mean))
        self.transform.zero_()[: len(mad.transform)] = torch.from_numpy(mad.transform)


build = IRMAD
calibrate = thresholded.calibrate
