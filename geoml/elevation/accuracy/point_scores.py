"""Scores of classes of points, whose truth may be one of several classes.

A code that means anything without a code of its own ("not classified") is right for each of the classes that it may be
and counts against those that it cannot be. Points of ground and others: Sithole and Vosselman 2004,
https://doi.org/10.1016/j.isprsjprs.2004.05.004.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class PointScores:
    """Intersection over union by class, from how many points of what may be what were answered how."""

    key: ClassVar[str] = "miou"
    larger_is_better: ClassVar[bool] = True

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts: dict[int, Ints] = {}
        """By the classes that points may be, as bits: how many were answered each class, and none of them (K + 1,)."""

    def update(self, answer: Ints, may: Ints) -> None:
        """Add points: the index of the class that each was answered (n,), -1 for none of them, and the classes that
        each may be as bits (n,); 0 is not scored."""
        for truth in np.unique(may).tolist():
            if truth:
                said = answer[may == truth]
                count = np.bincount(np.where(said < 0, len(self.classes), said), minlength=len(self.classes) + 1)
                self.counts[truth] = self.counts.get(truth, 0) + count

    def merge(self, other: PointScores) -> None:
        for truth, count in other.counts.items():
            self.counts[truth] = self.counts.get(truth, 0) + count

    @property
    def points(self) -> int:
        return int(sum(int(count.sum()) for count in self.counts.values()))

    def compute(self) -> dict[str, Any]:
        """``miou``, the mean over the classes that the truth has; ``iou`` by name; ``right``, the share of points;
        ``ground`` against all others where there is a class of this name; ``points``. None for what has no meaning."""
        iou = {name: self._iou(k) for k, name in enumerate(self.classes)}
        known = [v for v in iou.values() if v is not None]
        right = sum(
            int(count[k]) for truth, count in self.counts.items() for k in range(len(self.classes)) if truth >> k & 1
        )
        return {
            "miou": float(np.mean(known)) if known else None,
            "iou": iou,
            "right": right / self.points if self.points else None,
            "ground": self._against(self.classes.index("ground")) if "ground" in self.classes else None,
            "points": self.points,
        }

    def _iou(self, k: int) -> float | None:
        """None if no point surely is of the class: those that may be are no truth to find."""
        sure = self.counts.get(1 << k)
        if sure is None:
            return None
        wrong = sum(int(count[k]) for truth, count in self.counts.items() if not truth >> k & 1)
        return int(sure[k]) / (int(sure.sum()) + wrong)

    def _against(self, k: int) -> dict[str, float | None]:
        """Of points that surely are class ``k`` (a) or surely are not (b): shares that are lost and wrongly taken,
        both together, and Cohen's kappa; all in per cent."""
        sure = self.counts.get(1 << k, np.zeros(len(self.classes) + 1, np.int64))
        others = [count for truth, count in self.counts.items() if not truth >> k & 1]
        hit, taken = int(sure[k]), sum(int(count[k]) for count in others)
        a, b = int(sure.sum()), sum(int(count.sum()) for count in others)
        n, said = a + b, hit + taken
        agree = hit + b - taken
        chance = (a * said + b * (n - said)) / n if n else 0.0
        return {
            "type_1": 100 * (a - hit) / a if a else None,
            "type_2": 100 * taken / b if b else None,
            "total": 100 * (n - agree) / n if n else None,
            "kappa": 100 * (agree - chance) / (n - chance) if n > chance else None,
        }
