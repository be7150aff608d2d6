"""Otsu's threshold: the split of numbers into two classes with the largest variance between them.

Otsu: A Threshold Selection Method from Gray-Level Histograms. IEEE Transactions on Systems, Man, and Cybernetics 9 (1),
1979, https://doi.org/10.1109/TSMC.1979.4310076. Every number is its own level here: a histogram would let one outlier
decide how wide its bins are.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.errors import InputError


class Split(NamedTuple):
    """Half way between the two classes' nearest numbers, the mean of each class, and the deviation within them."""

    threshold: float
    below: float
    above: float
    deviation: float

    def slope(self, steepest: float) -> float:
        """Log odds of the upper class for each unit, of two normal classes of equal variance.

        At most such that the log odds of the mean of a class are ``steepest``.
        """
        gap = self.above - self.below
        if gap == 0:
            return steepest
        return min(gap / self.deviation**2 if self.deviation else math.inf, 2 * steepest / gap)


def otsu(values: Float[Tensor, " n"]) -> Split:
    """The split of finite numbers, in float64; of a constant the threshold is that number and nothing is above.

    Raises InputError without any number.
    """
    if values.numel() == 0:
        raise InputError("otsu: no numbers; expected at least one")
    ordered = values.detach().double().sort().values
    shift = ordered.mean()
    x = ordered - shift  # sums of centred numbers lose no digits
    left = torch.arange(1, len(x), dtype=torch.float64, device=x.device)
    right = len(x) - left
    sums = x.cumsum(0)
    below, above = sums[:-1] / left, (sums[-1] - sums[:-1]) / right
    between = torch.where(x[1:] > x[:-1], left * right * (above - below) ** 2, -1.0)  # equal numbers stay together
    if len(x) == 1 or float(between.max()) <= 0:
        return Split(float(ordered[0]), float(ordered[0]), float(ordered[0]), 0.0)
    at = int(between.argmax())
    within = (x[: at + 1] - below[at]).square().sum() + (x[at + 1 :] - above[at]).square().sum()
    return Split(
        threshold=float((ordered[at] + ordered[at + 1]) / 2),
        below=float(below[at] + shift),
        above=float(above[at] + shift),
        deviation=float((within / len(x)).sqrt()),
    )
