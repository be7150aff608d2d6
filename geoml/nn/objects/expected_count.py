"""How many objects there are, from what was found: with what is found wrongly, with what is missed, and an interval.

The calibrated confidences of all candidates add up to the number of them that are true. What no candidate stands for is
missing in the sum, so it is multiplied by the true number over the sum of the squares of ground of a validation split:
the ratio estimator (Cochran 1977, chapter 6), a correction by precision and recall at once, as Rogan and Gladen 1978
(https://doi.org/10.1093/oxfordjournals.aje.a112510) correct a prevalence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
"""Of the bootstrap."""
FEWEST = 5
"""Squares with something in them below which there is no interval."""
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Correction:
    """By the squares of a validation split (n,): sums of confidences, best of curves that were fitted without the
    square, and true numbers."""

    sums: NDArray[np.float64]
    truth: NDArray[np.float64]

    @classmethod
    def of(cls, squares: Sequence[tuple[float, int]]) -> Correction:
        """Of (sum, true number), as a card has them; without any it says nothing."""
        sums, truth = np.array(squares, np.float64).reshape(-1, 2).T
        return cls(sums, truth)

    @property
    def ratio(self) -> float | None:
        """True objects for one that the confidences add up to; None if nothing can be said."""
        total, real = float(self.sums.sum()), float(self.truth.sum())
        return real / total if total > 0 and real > 0 else None

    @cached_property
    def _spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Draws of the ratio, of a deviation in units of its own, and the variance for each expected object."""
        n, ratio = len(self.sums), self.ratio or 0.0
        random = np.random.default_rng(0)
        rows = random.integers(0, n, (DRAWS, n))
        below = self.sums[rows].sum(1)
        ratios = np.divide(self.truth[rows].sum(1), below, out=np.full(DRAWS, ratio), where=below > 0)
        left = float(((self.truth - ratio * self.sums) ** 2).sum() / self.sums.sum()) * n / (n - 1)
        return ratios, random.standard_t(n - 1, DRAWS), left

    def interval(self, total: float, squares: float) -> tuple[int, int] | None:
        """95 % of the true number, where confidences add up to ``total`` and their squares to ``squares``.

        Two things are unknown: the ratio, by a bootstrap over squares of ground, and how this ground differs from
        what is usual. That spread is the one seen between the squares, and at least the one of objects that are found
        and missed independently. None of fewer than `FEWEST` squares. The draws are always the same.
        """
        ratio = self.ratio
        if ratio is None or len(self.sums) < FEWEST:
            return None
        ratios, deviation, left = self._spread
        least = total - squares + total * max(ratio - 1, 0.0)  # of a sum of Bernoulli draws, and of a Poisson number
        drawn = ratios * total + deviation * np.sqrt(max(left * total, least))
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return math.floor(max(round(low, 6), 0)), math.ceil(max(round(high, 6), 0))
