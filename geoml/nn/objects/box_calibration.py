"""From the score of a box to the chance that it is a true one, and the score from which on boxes are reported.

What is matched is at an overlap of 0.4, greedily: the fate of a box does not hang on weaker ones, nor on a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
"""(n,) from 0 to 1."""

FEW = 100
"""Matches below which two numbers are fitted (Platt) and not a curve of any form (isotonic)."""
LEAST = 10
"""Matches below which nothing is."""
BINS = 40
"""Groups of equally many boxes that a curve is fitted to: the most knots that it has."""
TENTHS = 10
"""Groups of equally wide confidence that a reliability curve has."""


class Knots(NamedTuple):
    """A curve from scores to confidences: straight between its points (k,), flat beyond them; none leaves scores be."""

    score: Scores
    confidence: Scores

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> Knots:
        """Of (score, confidence), as a card has them."""
        return cls(*np.array(points, np.float64).reshape(-1, 2).T)

    def __call__(self, score: Scores) -> Scores:
        """(n,) confidences."""
        return np.interp(score, self.score, self.confidence) if len(self.score) else score


def fitted(score: Scores, hit: NDArray[np.bool_]) -> tuple[str, Knots]:
    """How it was fitted (``isotonic``, ``platt``; empty if too few match), and the curve, which never falls."""
    matches = int(hit.sum())
    if matches < LEAST:
        return "", Knots(np.empty(0), np.empty(0))
    return ("isotonic", _isotonic(score, hit)) if matches >= FEW else ("platt", _platt(score, hit))


def crossed(score: Scores, hit: NDArray[np.bool_], fold: NDArray[np.int64]) -> Scores:
    """(n,) confidences, each by a curve that is fitted to the other folds: what new boxes would get.

    Where the others have too few matches, by that of all.
    """
    _, every = fitted(score, hit)
    out = every(score)
    for k in np.unique(fold).tolist():
        mine = fold == k
        how, curve = fitted(score[~mine], hit[~mine])
        if how:
            out[mine] = curve(score[mine])
    return out


def _isotonic(score: Scores, hit: NDArray[np.bool_]) -> Knots:
    """Zadrozny and Elkan 2002, https://doi.org/10.1145/775047.775151, on groups of neighbouring scores."""
    from scipy.optimize import isotonic_regression  # scipy, which a task that is only named does without

    order = np.argsort(score, kind="stable")
    # whole scores stay together, or the order among equal ones would matter
    starts = np.unique(np.searchsorted(score[order], score[order][:: max(len(score) // BINS, 1)]))
    weight = np.diff(np.append(starts, len(score)))
    x = np.add.reduceat(score[order], starts) / weight
    y = np.add.reduceat(hit[order].astype(float), starts) / weight
    fit = isotonic_regression(y, weights=weight).x
    return Knots(x, np.clip(fit, 0, 1))


def _platt(score: Scores, hit: NDArray[np.bool_]) -> Knots:
    """A logistic curve of the logit of the score, with Platt's smoothed targets (1999), as `TENTHS` + 1 knots."""
    from scipy.optimize import minimize

    logit = _logit(score)
    hits, others = int(hit.sum()), int((~hit).sum())
    target = np.where(hit, (hits + 1) / (hits + 2), 1 / (others + 2))

    def loss(ab: Scores) -> float:
        z = ab[0] * logit + ab[1]
        return float((np.logaddexp(0, z) - target * z).mean())

    a, b = minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    x = np.linspace(score.min(), score.max(), 2 * TENTHS + 1)
    return Knots(x, 1 / (1 + np.exp(-(a * _logit(x) + b))))


def _logit(score: Scores) -> Scores:
    inner = np.clip(score, 1e-6, 1 - 1e-6)
    out: Scores = np.log(inner / (1 - inner))
    return out


class PrecisionRecall(NamedTuple):
    """What is reported from each score on, (k,) from the best: ``hits`` of so many ``found``."""

    score: Scores
    hits: NDArray[np.int64]
    found: NDArray[np.int64]

    def precision(self) -> Scores:
        """Share of what is reported that is true."""
        out: Scores = self.hits / self.found
        return out

    def thinned(self, most: int) -> PrecisionRecall:
        """Some points, the first and last among them."""
        at = np.unique(np.linspace(0, max(len(self.score) - 1, 0), most).round().astype(int))[: len(self.score)]
        return PrecisionRecall(self.score[at], self.hits[at], self.found[at])


def curve_of(score: Scores, hit: NDArray[np.bool_]) -> PrecisionRecall:
    """A point for each score that occurs."""
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(hit[order], dtype=np.int64)
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.empty(0, np.intp)
    return PrecisionRecall(score[last], hits[last], last + 1)


def best_f1(curve: PrecisionRecall, truth: int, lowest: float) -> float:
    """The threshold of the best F1; of several the highest. Never below ``lowest``, as `at_precision`."""
    return _between(curve, int(np.argmax(2 * curve.hits / (curve.found + truth))), lowest)


def at_precision(curve: PrecisionRecall, least: float, lowest: float) -> float | None:
    """The lowest threshold from which on so large a share is true; None if there is none."""
    enough = np.flatnonzero(curve.precision() >= least)
    return _between(curve, int(enough[-1]), lowest) if len(enough) else None


def _between(curve: PrecisionRecall, at: int, lowest: float) -> float:
    """In the middle of a point and the next one: as far from what is reported as from what is not."""
    after = curve.score[at + 1] if at + 1 < len(curve.score) else min(lowest, curve.score[at])
    return round(float(curve.score[at] + after) / 2, 6)


class Reliability(NamedTuple):
    """Of groups of boxes by confidence, (k,): its mean, the share that is true, and how many they are."""

    confidence: Scores
    true: Scores
    boxes: NDArray[np.int64]

    def error(self) -> float | None:
        """Detection expected calibration error (Küppers et al. 2020, https://arxiv.org/abs/2004.13546): the mean
        difference of both, by the number of boxes; None without any."""
        if not len(self.boxes):
            return None
        return float(np.average(np.abs(self.confidence - self.true), weights=self.boxes))


def reliability(confidence: Scores, hit: NDArray[np.bool_]) -> Reliability:
    """By tenths of confidence; groups without a box are left out."""
    group = np.minimum((confidence * TENTHS).astype(int), TENTHS - 1)
    boxes = np.bincount(group, minlength=TENTHS)
    some = boxes > 0
    sure, true = (np.bincount(group, weights=v, minlength=TENTHS)[some] / boxes[some] for v in (confidence, hit))
    return Reliability(sure, true, boxes[some])
