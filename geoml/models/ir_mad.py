"""IR-MAD: differences of canonical variates of two dates, reweighted until they rest on unchanged pixels alone.

Nielsen: The Regularized Iteratively Reweighted MAD Method for Change Detection in Multi- and Hyperspectral Data. IEEE
Transactions on Image Processing 16 (2), 2007, https://doi.org/10.1109/TIP.2006.888195. The variates do not change with
an affine transform of the bands of either date. Otsu's threshold is taken of the root of the chi-squared statistic:
the statistic itself spreads so far among changed pixels that a threshold of it would cut through them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geoml.nn.thresholded import PairConfig, Standardised, checked, settled

TASKS = ("change",)
TINY: dict[str, object] = {}

ROUNDS = 50
"""Reweightings at most."""
TOLERANCE = 1e-4
"""A largest change of a canonical correlation below this ends them."""
LEAST_SHARE = 0.05
"""Of the weight: with one or two variates every round shrinks what passes for unchanged, without an end."""
MOST = 250_000
"""Pixels that are reweighted; more would only take longer."""
RANK = 1e-6
"""Directions with a smaller share of the largest variance are left out: their covariance is singular."""
LEAST_VARIANCE = 1e-5
"""Of a difference of variates (of variance 1): pixels that did not change at all have none."""
EQUAL = 1e-10
"""Below 1, a smallest canonical correlation that only rounding keeps from it: the dates are one."""


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
    mean, transform = reweighted(z, config.bands)
    module.mean.add_(module.std * mean)
    module.transform.zero_()[: len(transform)] = transform
    return settled(module, pixels)


def reweighted(z: Tensor, bands: int) -> tuple[Tensor, Tensor]:
    """Mean (2 * bands) and transform (variates, 2 * bands) of (N, 2 * bands) float64 pixels to unit MAD variates.

    Each round weighs a pixel by the probability that an unchanged one would differ as much or more.
    """
    weight = torch.ones(len(z), dtype=z.dtype)
    mean, transform, before = _mad(z, weight, bands)
    if len(before) and float((1 - before).max()) < EQUAL:
        return mean, transform[:0]
    for _ in range(ROUNDS):
        chi2 = ((z - mean) @ transform.T).square().sum(1)
        weight = torch.special.gammaincc(torch.full_like(chi2, max(len(transform), 1) / 2), chi2 / 2)
        if float(weight.mean()) < LEAST_SHARE:
            break
        mean, transform, now = _mad(z, weight, bands)
        moved = float((now - before).abs().max()) if len(now) and len(now) == len(before) else float(len(before))
        if moved < TOLERANCE:
            break
        before = now
    return mean, transform


def _mad(z: Tensor, weight: Tensor, bands: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean, transform to MAD variates of variance 1, and canonical correlations."""
    weight = weight / weight.sum()
    mean = weight @ z
    centred = z - mean
    covariance = centred.T @ (centred * weight[:, None])
    first = _whitening(covariance[:bands, :bands])
    second = _whitening(covariance[bands:, bands:])
    left, correlation, right = torch.linalg.svd(first.T @ covariance[:bands, bands:] @ second, full_matrices=False)
    variates = torch.cat([(first @ left).T, -(right @ second.T)], dim=1)
    variance = (2 * (1 - correlation)).clamp_min(LEAST_VARIANCE)
    return mean, variates / variance.sqrt()[:, None], correlation


def _whitening(covariance: Tensor) -> Tensor:
    """(bands, rank) transform to uncorrelated directions of variance 1; what has next to no variance is left out."""
    values, vectors = torch.linalg.eigh(covariance)
    keep = values > RANK * max(float(values[-1]), RANK)
    out: Tensor = vectors[:, keep] * values[keep].rsqrt()
    return out
