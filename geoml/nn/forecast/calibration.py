"""Conformal calibration of quantiles: each is shifted so that as much of held-out truth lies below as it says.

Y. Romano, E. Patterson and E. Candès (2019): Conformalized Quantile Regression, https://arxiv.org/abs/1905.03222; here
for each level by itself, which gives the ends of every interval and keeps them in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import NDArray

LEAST = 100
"""Known values from which on a season has shifts of its own; of fewer it has those of all seasons."""

Floats = NDArray[np.float64]


def conformal_shifts(
    quantiles: Float[ndarray, "n lead level"],
    truth: Float[ndarray, "n lead"],
    levels: Sequence[float],
    season: Int[ndarray, "n lead"] | None = None,
    seasons: int = 1,
) -> Float[ndarray, "season lead level"]:
    """What is added to each quantile, in its unit; 0 where nothing is known.

    Of the errors ``truth - quantile`` it is the order statistic ``ceil((n + 1) level)`` above the median, its mirror
    image below, and the median error in the middle: finite-sample valid where calibration and future are exchangeable.
    """
    error = truth[:, :, None] - quantiles
    where = np.zeros(truth.shape, np.intp) if season is None else season
    out = np.zeros((seasons, *error.shape[1:]))
    for lead in range(error.shape[1]):
        known = np.isfinite(error[:, lead]).all(1)
        each = [known & (where[:, lead] == one) for one in range(seasons)]
        few = [mine.sum() < LEAST for mine in each]
        common = _order_statistics(error[known, lead], levels) if any(few) else out[0, lead]
        for one, mine in enumerate(each):
            out[one, lead] = common if few[one] else _order_statistics(error[mine, lead], levels)
    return out


def symmetric_shifts(
    quantiles: Float[ndarray, "n lead level"], truth: Float[ndarray, "n lead"], levels: Sequence[float]
) -> Float[ndarray, "lead level"]:
    """What widens both ends of each interval alike, as in the paper; the median stays.

    For few independent times, of which a common error says little about the next one. 0 where nothing is known.
    """
    out = np.zeros(quantiles.shape[1:])
    last = len(levels) - 1
    for lead in range(quantiles.shape[1]):
        known = np.isfinite(truth[:, lead]) & np.isfinite(quantiles[:, lead]).all(1)
        q, y = quantiles[known, lead], truth[known, lead]
        for k in range(len(levels) // 2) if len(y) else ():
            outside = np.sort(np.maximum(q[:, k] - y, y - q[:, last - k]))
            share = levels[last - k] - levels[k]
            wider = outside[min(len(y), int(np.ceil((len(y) + 1) * share - 1e-9))) - 1]
            out[lead, k], out[lead, last - k] = -wider, wider
    return out


def _order_statistics(error: Floats, levels: Sequence[float]) -> Floats:
    n = len(error)
    if not n:
        return np.zeros(len(levels))
    out = np.empty(len(levels))
    for k, (level, column) in enumerate(zip(levels, np.ascontiguousarray(error.T), strict=True)):
        if level == 0.5:
            out[k] = np.median(column)
            continue
        high = min(n, int(np.ceil((n + 1) * level - 1e-9))) - 1
        low = max(1, int(np.floor((n + 1) * level + 1e-9))) - 1
        at = high if level > 0.5 else low
        out[k] = np.partition(column, at)[at]
    return out
