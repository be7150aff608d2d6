"""Scores of a class map, summed part by part: the parts together give the score of the whole."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""In a target: no label, or no data."""
BINS = 10
"""Bins of confidence, of equal width, for the calibration."""


class ClassScores:
    """Confusion matrix and calibration of a classification with ``classes`` classes.

    Only integer counts and sums of integer confidences are kept, so the order and size of the parts do not matter.
    ``key`` is the score that weights are chosen by.
    """

    key: ClassVar[str] = "miou"
    larger_is_better: ClassVar[bool] = True

    def __init__(self, classes: int, confidence_steps: int) -> None:
        self.classes = classes
        self.steps = confidence_steps
        self.confusion: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
        self.pixels_by_step: NDArray[np.int64] = np.zeros(confidence_steps + 1, np.int64)
        self.right_by_step: NDArray[np.int64] = np.zeros(confidence_steps + 1, np.int64)

    def update(self, index: NDArray[np.integer], confidence: NDArray[np.integer], target: NDArray[np.integer]) -> None:
        """Add pixels: predicted index, confidence in ``confidence_steps``, true index (``IGNORE``: left out)."""
        labelled = np.asarray(target) != IGNORE
        truth, guess = np.asarray(target)[labelled].astype(np.int64), np.asarray(index)[labelled].astype(np.int64)
        sure = np.asarray(confidence)[labelled].astype(np.int64)
        k = self.classes
        self.confusion += np.bincount(truth * k + guess, minlength=k * k).reshape(k, k)
        self.pixels_by_step += np.bincount(sure, minlength=self.steps + 1)
        self.right_by_step += np.bincount(sure[truth == guess], minlength=self.steps + 1)

    def merge(self, other: ClassScores) -> None:
        """Add the counts of another part."""
        self.confusion += other.confusion
        self.pixels_by_step += other.pixels_by_step
        self.right_by_step += other.right_by_step

    def compute(self) -> dict[str, Any]:
        """All scores as plain JSON values; ``None`` where a score has no meaning (a class without a true pixel).

        ``confusion[i][j]`` counts pixels of true class i called j. ``miou`` and ``mean_f1`` are means over all classes,
        and ``None`` when one has no true pixel: a mean over the others would hide what was never put to the test.
        ``absent`` holds the indices of those classes. ``ece``: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
        """
        hit = np.diag(self.confusion).astype(float)
        truth, guess = self.confusion.sum(1).astype(float), self.confusion.sum(0).astype(float)
        observed = np.where(truth > 0, 1.0, np.nan)
        iou, f1 = _ratio(hit, truth + guess - hit) * observed, _ratio(2 * hit, truth + guess) * observed
        total = float(truth.sum())
        bins, ece = calibration(self.right_by_step, self.pixels_by_step)
        return {
            "pixels": int(total),
            "overall_accuracy": float(hit.sum() / total) if total else None,
            "miou": _mean(iou),
            "mean_f1": _mean(f1),
            "iou": _plain(iou),
            "f1": _plain(f1),
            "precision": _plain(_ratio(hit, guess)),
            "recall": _plain(_ratio(hit, truth)),
            "absent": np.flatnonzero(truth == 0).tolist(),
            "confusion": self.confusion.tolist(),
            "ece": ece,
            "calibration": bins,
        }


class MacroScores(ClassScores):
    """As `ClassScores`, with ``macro_f1`` as the key: the mean F1 of the classes that have a true pixel."""

    key: ClassVar[str] = "macro_f1"

    def compute(self) -> dict[str, Any]:
        """As `ClassScores.compute`; the key is None without any pixel."""
        found = super().compute()
        known = [v for v in found["f1"] if v is not None]
        return {**found, "macro_f1": sum(known) / len(known) if known else None}


def calibration(
    right_by_step: NDArray[np.int64], pixels_by_step: NDArray[np.int64]
) -> tuple[list[dict[str, object]], float | None]:
    """Bins of equal width and the expected calibration error, from pixels (and those that were right) by step.

    ``[k]`` of either array counts the pixels with confidence ``k / (len - 1)``.
    """
    last = len(pixels_by_step) - 1
    steps = np.arange(last + 1)
    which = np.minimum(steps * BINS // last, BINS - 1)
    pixels = np.bincount(which, pixels_by_step, BINS).astype(float)
    right = np.bincount(which, right_by_step, BINS).astype(float)
    sure = np.bincount(which, pixels_by_step * steps / last, BINS).astype(float)
    accuracy, confidence = _ratio(right, pixels), _ratio(sure, pixels)
    bins: list[dict[str, object]] = [
        {"from": b / BINS, "to": (b + 1) / BINS, "pixels": int(n), "confidence": c, "accuracy": a}
        for b, (n, c, a) in enumerate(zip(pixels, _plain(confidence), _plain(accuracy), strict=True))
    ]
    total = pixels.sum()
    return bins, float(np.abs(right - sure).sum() / total) if total else None


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = np.divide(over, under, out=np.full(over.shape, np.nan), where=under > 0)
    return out


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]


def _mean(values: NDArray[np.float64]) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())
