"""Scores of boxes against true ones, picture by picture: the parts together give the score of the whole.

- Average precision is that of COCO (Lin et al. 2014, https://arxiv.org/abs/1405.0312): at 101 recalls, by greedy
  matches, with any number of boxes in a picture; boxes of one score count together, so the order of pictures does not
  matter. Sizes are the longer sides of boxes, in pixels.
- Precision, recall and F1 are at an overlap of 0.4 by the best assignment, as DeepForest has it (Weinstein et al. 2021,
  https://doi.org/10.1371/journal.pcbi.1009180), of the boxes of at least the threshold of their class.
- The same of centres that lie within a distance, one to one, and how far they are off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoml.nn.objects.box_matching import ASIDE, HIT, Pairs, distances, greedy, most_shared, nearest, shares
from geoml.nn.objects.mask_shares import TrueOutlines, mask_shares
from geoml.vector.boxes import edges, suppress
from geoml.vector.masks import columns_of

AP, AT = 0.5, 0.4
"""Intersection over union of a match: for the score that weights are chosen by, and for precision and recall."""
OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Those that AP is the mean over."""
RECALLS = np.linspace(0, 1, 101)
ANY = (0.0, float("inf"))
"""Every size."""


@dataclass(frozen=True, eq=False)
class PictureBoxes:
    """Boxes of one class in a picture, best first: ``score`` (n,), edges ``found`` and ``truth`` (m, 4 or 5).

    What finds a true box that is ``aside`` (m,) is neither right nor wrong.
    """

    score: NDArray[np.float64]
    found: NDArray[np.float64]
    truth: NDArray[np.float64]
    aside: NDArray[np.bool_]
    of_masks: Pairs | None = None
    """What outlines share, where these are compared in place of the boxes."""

    @cached_property
    def pairs(self) -> Pairs:
        """All that overlap."""
        return shares(self.found, self.truth) if self.of_masks is None else self.of_masks

    @property
    def real(self) -> NDArray[np.float64]:
        """The true boxes that count."""
        return self.truth[~self.aside]

    def fates(self, least: float, size: tuple[float, float] = ANY) -> NDArray[np.int64]:
        """(n,) by COCO, of an overlap of ``least``, where only true boxes with a longer side in ``size`` count."""
        here = _within(self.truth, size)
        pairs = self.pairs.where(self.pairs.value >= least)
        fate = greedy(pairs, len(self.found), self.aside | ~here, self.aside)
        fate[(fate != HIT) & ~_within(self.found, size)] = ASIDE
        return fate

    def sure(self, threshold: float) -> tuple[NDArray[np.intp], Pairs]:
        """Rows of at least a score that count, and the assignment of them to the true boxes that count."""
        rows = np.flatnonzero(self.score >= threshold)
        pairs = self.pairs.where(self.pairs.found < len(rows))  # they come first
        counts = ~self.aside[pairs.truth]
        best = most_shared(pairs.where(counts), len(rows), len(self.truth))
        best = best.where(best.value >= AT)
        other = pairs.where(~counts & (pairs.value >= AT)).found
        return np.setdiff1d(rows, np.setdiff1d(other, best.found)), best

    def near(self, threshold: float, most: float) -> tuple[int, Pairs]:
        """How many of at least a score count, and the assignment of their centres to those of true boxes.

        What lies within ``most`` pixels of a true box that is aside alone does not count.
        """
        mine = centres(self.found[self.score >= threshold])
        best = nearest(distances(mine, centres(self.real), most), len(mine), len(self.real))
        other = distances(mine, centres(self.truth[self.aside]), most).found
        return len(mine) - len(np.setdiff1d(other, best.found)), best


class Totals(NamedTuple):
    """Counts that precision and recall are made of."""

    hits: int
    found: int
    truth: int

    def scores(self) -> dict[str, Any]:
        """None if a score has no meaning."""
        return {
            "precision": self.hits / self.found if self.found else None,
            "recall": self.hits / self.truth if self.truth else None,
            "f1": 2 * self.hits / (self.found + self.truth) if self.truth else None,
            "truth": self.truth,
            "found": self.found,
        }


class BoxScores:
    """Boxes of ``classes`` classes; those of a score of at least their class's ``thresholds`` count as found.

    What overlaps a better box by more than ``overlap`` is suppressed in each picture first. ``key`` is the score that
    weights are chosen by: the mean AP of the classes that have true boxes, since AP50 stops to grow long before boxes
    stop to get better.
    """

    key: ClassVar[str] = "ap"
    larger_is_better: ClassVar[bool] = True

    def __init__(self, classes: int, thresholds: float | Sequence[float], overlap: float) -> None:
        self.classes, self.overlap = classes, overlap
        self.thresholds: list[float] = np.broadcast_to(thresholds, classes).tolist()
        self.pictures: list[tuple[PictureBoxes, ...]] = []
        """By picture, by class."""
        self.outlined: list[tuple[PictureBoxes, ...]] = []
        """The same of outlines; empty if there are none."""

    def update(self, found: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
        """Add a picture by its boxes; see `add`."""
        self.add(found, truth)

    def add(self, found: NDArray[np.float64], truth: NDArray[np.float64], outlines: TrueOutlines | None = None) -> None:
        """Add a picture.

        ``found`` is (n, 8) in the order of `geoml.vector.boxes.COLUMNS`, with the index of the class. ``truth`` is
        (m, 6) index, 1 where the box is to be left aside (what finds it is neither right nor wrong), top, left, bottom,
        right. Oriented boxes have one column more in both, the angle. With ``outlines``, of the same boxes, ``found``
        is (n, 57): masks are compared too.
        """
        boxes = suppress(columns_of(found), self.overlap)
        shape, score = edges(boxes), boxes["score"]
        aside = truth[:, 1] > 0
        common = mask_shares(boxes, outlines) if outlines is not None else None
        parts, masks = [], []
        for k in range(self.classes):
            mine = boxes["class"] == k
            real = (truth[:, 0] == k) | aside
            parts.append(PictureBoxes(score[mine], shape[mine], truth[real, 2:], aside[real]))
            if common is not None:
                masks.append(replace(parts[-1], of_masks=common.among(mine, real)))
        self.pictures.append(tuple(parts))
        if masks:
            self.outlined.append(tuple(masks))

    def merge(self, other: BoxScores) -> None:
        """Add the pictures of another part."""
        self.pictures += other.pictures
        self.outlined += other.outlined

    def of_class(self, k: int) -> list[PictureBoxes]:
        """Every picture as one class has it."""
        return [picture[k] for picture in self.pictures]

    def compute(self) -> dict[str, Any]:
        """All scores as plain JSON values; None if a score has no meaning (a class without a true box).

        By class ``ap`` and ``ap50``, ``precision``, ``recall``, ``f1``, ``truth`` and ``found`` (numbers of boxes), and
        the same over all (AP: the mean of the classes that have truth) with ``count_error`` (found / truth - 1);
        ``nothing`` is a map without any box. Where outlines were compared, ``mask_ap`` and ``mask_ap50`` are AP by what
        these share.
        """
        by_class, parts = [], []
        for k, threshold in enumerate(self.thresholds):
            pictures = self.of_class(k)
            parts.append(counted(pictures, threshold))
            aps = {"ap": average_precision(pictures, OVERLAPS.tolist()), "ap50": average_precision(pictures, [AP])}
            if self.outlined:
                masks = [picture[k] for picture in self.outlined]
                aps |= {"mask_ap": average_precision(masks, OVERLAPS.tolist())}
                aps |= {"mask_ap50": average_precision(masks, [AP])}
            by_class.append({**aps, **parts[-1].scores(), "threshold": threshold})
        whole = total(parts)
        return {
            **{name: mean(row[name] for row in by_class) for name in aps},
            **whole.scores(),
            "count_error": whole.found / whole.truth - 1 if whole.truth else None,
            "by_class": by_class,
            "nothing": {"ap": 0.0, "ap50": 0.0, "f1": 0.0, "recall": 0.0, "count_error": -1.0} if whole.truth else None,
        }


def counted(pictures: Sequence[PictureBoxes], threshold: float) -> Totals:
    """At an overlap of `AT`, by the best assignment."""
    sure = [picture.sure(threshold) for picture in pictures]
    truth = sum(len(picture.real) for picture in pictures)
    return Totals(sum(len(best.found) for _, best in sure), sum(len(rows) for rows, _ in sure), truth)


def points(pictures: Sequence[PictureBoxes], threshold: float, most: float) -> tuple[Totals, float]:
    """Of centres within ``most`` pixels, and the sum of the squares of the distances of those that match."""
    near = [picture.near(threshold, most) for picture in pictures]
    truth = sum(len(picture.real) for picture in pictures)
    squares = sum(float((best.value**2).sum()) for _, best in near)
    return Totals(sum(len(best.found) for _, best in near), sum(n for n, _ in near), truth), squares


def average_precision(
    pictures: Sequence[PictureBoxes], overlaps: Sequence[float], size: tuple[float, float] = ANY
) -> float | None:
    """Mean over ``overlaps`` of COCO's average precision; None without a true box of this ``size`` in pixels.

    The size is that of the longer side, from the first on and below the second.
    """
    real = sum(int(_within(picture.real, size).sum()) for picture in pictures)
    if not real:
        return None
    score = np.concatenate([picture.score for picture in pictures])
    order = np.argsort(-score, kind="stable")
    found = [np.concatenate([picture.fates(least, size) for picture in pictures])[order] for least in overlaps]
    return float(np.mean([_average(score[order], fate, real) for fate in found]))


def _average(score: NDArray[np.float64], fate: NDArray[np.int64], real: int) -> float:
    """Mean over recalls of the best precision at such a recall or a larger one; scores fall."""
    counts = fate != ASIDE
    score, hits = score[counts], np.cumsum(fate[counts] == HIT)
    last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.empty(0, np.intp)
    precision, recall = hits[last] / (last + 1), hits[last] / real
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, "left")
    return float(np.append(best, 0.0)[np.minimum(at, len(best))].mean())


def longer(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) longer side of edges (n, 4), or (n, 5)."""
    side: NDArray[np.float64] = (boxes[:, 2:4] - boxes[:, :2]).max(1, initial=0)
    return side


def centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) row and column of the middle of edges (n, 4), or (n, 5)."""
    middle: NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return middle


def total(parts: Sequence[Totals]) -> Totals:
    """Of all classes."""
    return Totals(*(int(v) for v in np.sum([tuple(p) for p in parts], axis=0)))


def mean(values: Iterator[float | None]) -> float | None:
    """Of those that have a meaning."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _within(boxes: NDArray[np.float64], size: tuple[float, float]) -> NDArray[np.bool_]:
    if size == ANY:
        return np.ones(len(boxes), bool)
    side = longer(boxes)
    return (side >= size[0]) & (side < size[1])
