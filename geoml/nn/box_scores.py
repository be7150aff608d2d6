"""Scores of boxes against true ones, picture by picture: the parts together give what the whole gives at once.

AP50 is that of COCO (Lin et al. 2014, https://arxiv.org/abs/1405.0312): average precision at an intersection over union
of 0.5, at 101 recalls, with any number of boxes in a picture; boxes of one score count together, so the order of
pictures does not matter. Precision, recall and F1 are at an overlap of 0.4 (Weinstein et al. 2021,
https://doi.org/10.1371/journal.pcbi.1009180) and a fixed score. Matches are greedy, best score first, one to one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.vector.boxes import COLUMNS, edges, overlapping, suppress

AP, AT = 0.5, 0.4
"""Intersection over union of a match."""
RECALLS = np.linspace(0, 1, 101)
_HIT, _MISS, _ASIDE = 1, 0, -1


class BoxScores:
    """Boxes of ``classes`` classes; those of a score of at least ``confident`` count as found.

    What overlaps a better box by more than ``overlap`` is suppressed in each picture first. ``key`` is the score that
    weights are chosen by: the mean AP50 of the classes that have true boxes.
    """

    key: ClassVar[str] = "ap50"
    larger_is_better: ClassVar[bool] = True

    def __init__(self, classes: int, confident: float, overlap: float) -> None:
        self.classes, self.confident, self.overlap = classes, confident, overlap
        self.truth: NDArray[np.int64] = np.zeros(classes, np.int64)
        self._found: list[NDArray[np.float64]] = []

    def update(self, found: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
        """Add a picture.

        ``found`` is (n, 8) in the order of `geoml.vector.boxes.COLUMNS`, with the index of the class. ``truth`` is
        (m, 6) index, 1 where the box is to be left aside (what finds it is neither right nor wrong), top, left, bottom,
        right.
        """
        boxes = suppress(dict(zip(COLUMNS, found.T, strict=True)), self.overlap)
        found = np.column_stack([boxes["class"], boxes["score"], edges(boxes)])
        for index in range(self.classes):
            mine, real = found[found[:, 0] == index], truth[truth[:, 0] == index]
            real = np.concatenate([real, truth[(truth[:, 1] > 0) & (truth[:, 0] != index)]])
            self.truth[index] += int((real[:, 1] == 0).sum())
            mine = mine[np.argsort(-mine[:, 1], kind="stable")]
            fates = [_matched(mine[:, 2:], real[:, 2:], real[:, 1] > 0, least) for least in (AP, AT)]
            self._found.append(np.column_stack([mine[:, :2], *fates]))

    def merge(self, other: BoxScores) -> None:
        """Add the pictures of another part."""
        self.truth += other.truth
        self._found += other._found

    def compute(self) -> dict[str, Any]:
        """All scores as plain JSON values; None where a score has no meaning (a class without a true box).

        By class ``ap50``, ``precision``, ``recall``, ``f1``, ``truth`` and ``found`` (numbers of boxes), and the same
        over all (AP50: the mean of the classes that have truth) with ``count_error`` (found / truth - 1);
        ``nothing`` is a map without any box.
        """
        rows = np.concatenate(self._found) if self._found else np.empty((0, 4))
        by_class = [self._row(rows[rows[:, 0] == k], int(n)) for k, n in enumerate(self.truth)]
        real = int(self.truth.sum())
        aps = [row["ap50"] for row in by_class if row["ap50"] is not None]
        whole = self._counts(rows, real)
        return {
            "ap50": float(np.mean(aps)) if aps else None,
            **whole,
            "count_error": whole["found"] / real - 1 if real else None,
            "by_class": by_class,
            "confident": self.confident,
            "nothing": {"ap50": 0.0, "f1": 0.0, "recall": 0.0, "count_error": -1.0} if real else None,
        }

    def _row(self, rows: NDArray[np.float64], real: int) -> dict[str, Any]:
        return {"ap50": _average_precision(rows[:, 1], rows[:, 2], real), **self._counts(rows, real)}

    def _counts(self, rows: NDArray[np.float64], real: int) -> dict[str, Any]:
        """At the fixed score."""
        fates = rows[rows[:, 1] >= self.confident, 3]
        hits, found = int((fates == _HIT).sum()), int((fates != _ASIDE).sum())
        return {
            "precision": hits / found if found else None,
            "recall": hits / real if real else None,
            "f1": 2 * hits / (found + real) if real else None,
            "truth": real,
            "found": found,
        }


def _matched(
    found: NDArray[np.float64], truth: NDArray[np.float64], aside: NDArray[np.bool_], least: float
) -> NDArray[np.int64]:
    """(n,) of each box, best first, whether it hits a true one, misses, or finds one that is left aside."""
    fate = np.full(len(found), _MISS)
    if not len(found) or not len(truth):
        return fate
    i, j, share = overlapping(found, truth, np.nextafter(least, 0))
    free = np.ones(len(truth), bool)
    order = np.lexsort((j, -share, aside[j], i))  # what counts before what is left aside, then the closest
    for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if fate[a] == _MISS and (free[b] or aside[b]):
            fate[a], free[b] = _ASIDE if aside[b] else _HIT, False
    return fate


def _average_precision(score: NDArray[np.float64], fate: NDArray[np.float64], real: int) -> float | None:
    """Mean over recalls of the best precision at such a recall or a larger one; None without true boxes."""
    if not real:
        return None
    counted = fate != _ASIDE
    score, hit = score[counted], fate[counted] == _HIT
    order = np.argsort(-score, kind="stable")
    score, hits = score[order], np.cumsum(hit[order])
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.empty(0, np.intp)
    precision, recall = hits[last] / (last + 1), hits[last] / real
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, "left")
    return float(np.append(best, 0.0)[np.minimum(at, len(best))].mean())
