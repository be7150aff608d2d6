"""Scores of a change map, summed up part by part: those of its classes, and those of change against none.

Change against none puts all classes of change together. Its precision-recall curve comes from the probability of
change in steps, so it needs no pixel to be kept.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.nn.metrics import IGNORE, ClassScores, calibration

SIZES = (25, 100, 400)
"""Upper bounds in pixels of the classes of changed objects by size; the last class has none."""
THIN = 5
"""Steps between the points of the curve that is handed out."""


class ChangeScores:
    """As `geoml.nn.metrics.ClassScores`, with the probability of change as the second number of a pixel.

    ``classes`` count unchanged (index 0). Only integer counts are kept, so the order and size of the parts do not
    matter; changed objects are counted by `objects`, which needs whole pieces.
    """

    key: ClassVar[str] = ClassScores.key
    larger_is_better: ClassVar[bool] = ClassScores.larger_is_better

    def __init__(self, classes: int, probability_steps: int) -> None:
        self.classes = ClassScores(classes, probability_steps)
        self.steps = probability_steps
        self.changed: NDArray[np.int64] = np.zeros(probability_steps + 1, np.int64)
        """Truly changed pixels by probability step."""
        self.unchanged: NDArray[np.int64] = np.zeros(probability_steps + 1, np.int64)
        self.sizes: NDArray[np.int64] = np.zeros((len(SIZES) + 1, 4), np.int64)
        """By size: objects, found objects, their pixels, those of them called changed."""

    def update(self, index: NDArray[np.uint8], probability: NDArray[np.uint8], target: NDArray[np.integer]) -> None:
        """Add pixels: predicted index, probability of change in steps, true index (``IGNORE``: left out)."""
        labelled = np.asarray(target) != IGNORE
        truth, step = np.asarray(target)[labelled] > 0, np.asarray(probability)[labelled].astype(np.int64)
        self.classes.update(index, probability, target)
        self.changed += np.bincount(step[truth], minlength=self.steps + 1)
        self.unchanged += np.bincount(step[~truth], minlength=self.steps + 1)

    def objects(self, index: NDArray[np.uint8], target: NDArray[np.integer]) -> None:
        """Add the changed objects of a whole piece: connected (8 neighbours) pixels of true change, all classes alike.

        An object is found when at least half of it is called changed, whatever the class.
        """
        from scipy import ndimage  # half a second, and only change needs it

        label, count = ndimage.label((target > 0) & (target != IGNORE), np.ones((3, 3)))
        if not count:
            return
        size = np.bincount(label.ravel(), minlength=count + 1)[1:]
        hit = np.bincount(label[np.asarray(index) > 0], minlength=count + 1)[1:]
        which = np.searchsorted(SIZES, size, side="right")
        for column, values in enumerate((np.ones_like(size), 2 * hit >= size, size, hit)):
            np.add.at(self.sizes[:, column], which, values.astype(np.int64))

    def merge(self, other: ChangeScores) -> None:
        """Add the counts of another part."""
        self.classes.merge(other.classes)
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.sizes += other.sizes

    def compute(self) -> dict[str, Any]:
        """The scores of the classes as `ClassScores.compute`, and ``change``, all as plain JSON values.

        ``ece`` and ``calibration`` are of the probability of change: how often what was called changed with it had
        changed. ``change`` has ``f1``, ``iou``, ``precision``, ``recall``, ``kappa`` (Cohen 1960,
        https://doi.org/10.1177/001316446002000104) and ``overall_accuracy`` of the map, all against unchanged;
        ``average_precision``, ``curve`` (probability at least ``threshold``: precision, recall) and ``best``, the
        threshold with the highest F1 on these very pixels: information, not a score; ``by_size`` where `objects` was
        fed.
        """
        bins, ece = calibration(self.changed, self.changed + self.unchanged)
        return {**self.classes.compute(), "ece": ece, "calibration": bins, "change": self._binary()}

    def _binary(self) -> dict[str, object]:
        matrix = self.classes.confusion
        hit, missed = int(matrix[1:, 1:].sum()), int(matrix[1:, 0].sum())
        false, quiet = int(matrix[0, 1:].sum()), int(matrix[0, 0])
        total = hit + missed + false + quiet
        agree = _share(hit + quiet, total)
        chance = _share((hit + missed) * (hit + false) + (quiet + missed) * (quiet + false), total**2)
        kappa = None if agree is None or chance is None or chance == 1 else (agree - chance) / (1 - chance)
        return {
            "f1": _share(2 * hit, 2 * hit + missed + false),
            "iou": _share(hit, hit + missed + false),
            "precision": _share(hit, hit + false),
            "recall": _share(hit, hit + missed),
            "kappa": kappa,
            "overall_accuracy": agree,
            **self._curve(),
            **({"by_size": self._by_size()} if self.sizes.any() else {}),
        }

    def _curve(self) -> dict[str, object]:
        """Average precision as the sum of (R_i - R_{i-1}) * P_i from high thresholds to low, without interpolation."""
        hit, called = np.cumsum(self.changed[::-1]), np.cumsum((self.changed + self.unchanged)[::-1])
        positives = int(hit[-1])
        rows = [
            {"threshold": (self.steps - i) / self.steps, "precision": float(h / n), "recall": float(h / positives)}
            for i, (h, n) in enumerate(zip(hit.tolist(), called.tolist(), strict=True))
            if positives and n and (i == 0 or n > called[i - 1])
        ]
        if not rows:
            return {"average_precision": None, "curve": [], "best": None}
        recall = np.array([0.0, *(r["recall"] for r in rows)])
        precision = np.array([r["precision"] for r in rows])
        f1 = 2 * precision * recall[1:] / np.maximum(precision + recall[1:], 1e-12)
        top = int(f1.argmax())
        return {
            "average_precision": float((np.diff(recall) * precision).sum()),
            "curve": [r for r in rows[:-1] if round(r["threshold"] * self.steps) % THIN == 0] + rows[-1:],
            "best": {"threshold": rows[top]["threshold"], "f1": float(f1[top])},
        }

    def _by_size(self) -> list[dict[str, object]]:
        bounds = [0, *SIZES, None]
        return [
            {
                "from": bounds[i],
                "below": bounds[i + 1],
                "objects": int(row[0]),
                "found": int(row[1]),
                "recall": _share(int(row[1]), int(row[0])),
                "pixel_recall": _share(int(row[3]), int(row[2])),
            }
            for i, row in enumerate(self.sizes)
        ]


def _share(over: int, under: int) -> float | None:
    return over / under if under else None
