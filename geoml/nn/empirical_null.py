"""What a magnitude of change would be if nothing had changed: a null distribution, taken from its lower half.

Efron: Large-Scale Simultaneous Hypothesis Testing: The Choice of a Null Hypothesis. Journal of the American Statistical
Association 99 (465), 2004, https://doi.org/10.1198/016214504000000089. A threshold such as Otsu's always splits; how
much of the null lies above it says what the split is worth. The null is a gamma distribution: of differences that are
normal or a little heavier, over any number of bands, magnitudes and their squares lie close to one.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from geoml.errors import InputError

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Quantiles that the null goes through as well as it can: most pixels of a pair have not changed."""
MOST = 200_000
"""Numbers that quantiles are taken of; more would say the same."""


def null_above(magnitudes: Float[Tensor, " n"], threshold: float) -> float:
    """The share of the null of magnitudes of 0 or more that lies above ``threshold``.

    Where half of the magnitudes are 0 the null is 0 throughout. Raises InputError without any number.
    """
    from scipy.optimize import minimize_scalar  # half a second, and only a calibration needs it
    from scipy.special import gammaincc, gammaincinv

    if magnitudes.numel() == 0:
        raise InputError("null_above: no numbers; expected at least one")
    values = magnitudes.detach().double()
    levels = np.array(LEVELS)
    quantiles = torch.quantile(values[:: -(-len(values) // MOST)], torch.from_numpy(levels).to(values)).cpu().numpy()
    if quantiles[-1] <= 0:
        return float(threshold < 0)
    above_zero = quantiles > 0
    levels, logs = levels[above_zero], np.log(quantiles[above_zero])

    def gaps_of(log_shape: float) -> NDArray[np.float64]:
        """Of the logarithms of the quantiles from those of a gamma distribution of scale 1."""
        gaps: NDArray[np.float64] = logs - np.log(np.maximum(gammaincinv(np.exp(log_shape), levels), 1e-300))
        return gaps

    best = minimize_scalar(lambda s: float(gaps_of(s).var()), bounds=(-2.0, 8.0), method="bounded")
    scale = float(np.exp(gaps_of(best.x).mean()))
    return float(gammaincc(np.exp(best.x), max(threshold, 0.0) / scale))
