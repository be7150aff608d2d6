"""When a match is accepted: the number of inliers from which a wanted share of the accepted is right.

As EarthMatch (https://arxiv.org/abs/2405.05422, section 4): candidates that are known to be true or false are fitted by
a logistic curve over the inlier count, and the threshold is where it reaches the wanted precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError

PRECISION = 0.999
MARGIN = 1.5
"""Times the best false candidate that was seen: a hundred of them do not hold the worst of a million."""
LEAST = 20
"""Inliers below which nothing is believed, whatever was seen: four times what frames of another field reach."""
MOST = 20.0
"""Logarithm of inliers beyond all that pictures have: a curve that gets there later tells nothing apart."""
RIDGE = 1e-3
STEPS = 100


@dataclass(frozen=True)
class Acceptance:
    """P(right) = 1 / (1 + exp(-(``slope`` ln(1 + inliers) + ``intercept``))); accepted from ``threshold`` inliers.

    ``precision`` was wanted; ``true`` and ``false`` candidates were fitted, ``highest`` is the best false one.
    """

    slope: float
    intercept: float
    threshold: int
    precision: float = PRECISION
    true: int = 0
    false: int = 0
    highest: int = 0

    def probability(self, inliers: int) -> float:
        """Probability, 0 to 1, that a candidate with this many inliers is right."""
        return float(_sigmoid(np.array([self.slope * math.log1p(inliers) + self.intercept]))[0])


def fit_acceptance(
    inliers: NDArray[np.integer], right: NDArray[np.bool_], *, precision: float = PRECISION, margin: float = MARGIN
) -> Acceptance:
    """The acceptance of candidates with (N,) ``inliers`` of which (N,) are ``right``.

    Logistic regression on ln(1 + inliers) with a weak ridge, so that a clean split has a finite slope. The threshold is
    the smallest count where the curve reaches ``precision``, and no less than ``margin`` times the best false candidate
    or ``LEAST``. In a clean split nothing says where between the kinds the curve lies, and true pictures of another
    date have fewer inliers than made ones: there the false ones alone choose, and the curve reaches ``precision`` at
    the threshold. Raises DataError without candidates of both kinds or where more inliers do not mean more right.
    """
    true, false = int(right.sum()), int((~right).sum())
    if not true or not false:
        raise DataError(f"acceptance: {true} true and {false} false candidates; both kinds are needed")
    x = np.log1p(inliers.astype(float))
    goal = right.astype(float)
    slope, intercept = _logistic(x, goal)
    odds = math.log(precision / (1 - precision))
    if slope <= 0 or odds - intercept > MOST * slope:
        raise DataError("acceptance: right candidates have no more inliers than wrong ones")
    highest = int(inliers[~right].max())
    threshold = max(math.ceil(margin * highest), highest + 1, LEAST)
    if inliers[right].min() > highest:
        intercept = odds - slope * math.log1p(threshold)
    else:
        threshold = max(math.ceil(math.expm1((odds - intercept) / slope)), threshold)
    return Acceptance(slope, intercept, threshold, precision, true, false, highest)


def _logistic(x: NDArray[np.float64], goal: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept by Newton's method, the step halved while the likelihood falls."""
    design = np.column_stack([x, np.ones_like(x)])
    beta = np.zeros(2)

    def loss(b: NDArray[np.float64]) -> float:
        z = design @ b
        return float((np.logaddexp(0, z) - goal * z).sum() + RIDGE * b[0] ** 2 / 2)

    for _ in range(STEPS):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (p - goal) + RIDGE * np.array([beta[0], 0])
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + np.diag([RIDGE, 1e-9])
        step = np.linalg.solve(hessian, gradient)
        size, here = 1.0, loss(beta)
        while loss(beta - size * step) > here and size > 1e-8:
            size /= 2
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0, -z)))
