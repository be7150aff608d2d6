"""How well objects are found on held-out data: all scores, compared with no objects at all and with guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoml.data.targets.boxes import boxes_of, outlines_of
from geoml.grid.plane import Window
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.box_calibration import Knots, reliability
from geoml.nn.objects.box_matching import ASIDE, HIT
from geoml.nn.objects.box_scores import (
    AP,
    AT,
    OVERLAPS,
    BoxScores,
    PictureBoxes,
    average_precision,
    centres,
    counted,
    longer,
    mean,
    total,
)
from geoml.nn.objects.box_scores import points as point_scores
from geoml.nn.objects.centre_heat import INDEX, OUTLINE
from geoml.nn.objects.expected_count import Correction
from geoml.outputs.objects import OVERLAP, SCORE
from geoml.vector.boxes import COLUMNS

if TYPE_CHECKING:
    from geoml.io.cards.detection import FoundClass
    from geoml.io.cards.map_card import MapCard
    from geoml.tasks.detection import DetectionRecipe

_ROW, _COL = COLUMNS.index("y"), COLUMNS.index("x")
THIRDS = (1 / 3, 2 / 3)
"""Of the true boxes by size, where a recipe names no sizes."""


class DetectionScores(BoxScores):
    """`BoxScores` against targets as `geoml.data.targets.boxes` has them."""

    def __init__(self, classes: int, thresholds: float | Sequence[float] = SCORE) -> None:
        super().__init__(classes, thresholds, OVERLAP)
        self.known: list[NDArray[np.bool_]] = []
        """(y, x) of each picture: where something is known."""

    @property
    def pixels(self) -> int:
        """How many were searched."""
        return sum(int(known.sum()) for known in self.known)

    def update(self, found: NDArray[np.float64], truth: NDArray[Any]) -> None:
        """Add a picture: candidates (n, 8) in its pixels, and its target (6, y, x); with masks (n, 57) and (8, y, x).

        A candidate with its centre in a pixel of which nothing is known does not count.
        """
        known = np.asarray(truth[INDEX] != IGNORE)
        self.known.append(known)
        mine = found[known[found[:, _ROW].astype(int), found[:, _COL].astype(int)]]
        self.add(mine, boxes_of(truth), outlines_of(truth) if len(truth) > OUTLINE else None)

    def merge(self, other: BoxScores) -> None:
        """Add the pictures of another part."""
        super().merge(other)
        self.known += other.known if isinstance(other, DetectionScores) else []

    def compute(self) -> dict[str, Any]:
        """As `BoxScores`, and ``pixels``: how many were searched."""
        return {**super().compute(), "pixels": self.pixels}

    def guessed(self) -> BoxScores:
        """As many boxes of each class as there are true ones, of its median size, on a lattice: what needs no image."""
        guess = BoxScores(self.classes, 0.0, 1.0)
        for n, known in enumerate(self.known):
            parts = [self._lattice(k, known) for k in range(self.classes)]
            guess.pictures.append(
                tuple(
                    PictureBoxes(np.ones(len(boxes)), boxes, mine.truth, mine.aside)
                    for boxes, mine in zip(parts, self.pictures[n], strict=True)
                )
            )
        return guess

    def _lattice(self, k: int, known: NDArray[np.bool_]) -> NDArray[np.float64]:
        real = np.concatenate([p.real for p in self.of_class(k)])
        if not len(real):
            return np.empty((0, 4))
        step = max(float(np.sqrt(self.pixels / len(real))), 1.0)
        y, x = np.meshgrid(*(np.arange(step / 2, n, step) for n in known.shape), indexing="ij")
        at = np.column_stack([y.ravel(), x.ravel()])
        at = at[known[at[:, 0].astype(int), at[:, 1].astype(int)]]
        half = np.median(real[:, 2:4] - real[:, :2], axis=0) / 2
        return np.concatenate([at - half, at + half, np.zeros((len(at), real.shape[1] - 4))], axis=1)


def squares_of(pictures: Sequence[PictureBoxes], side: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each picture the numbers of the squares of ``side`` pixels that hold what was found, and what is true and
    counts; over all pictures, from 0 on, those without anything left out."""
    every: list[NDArray[np.float64]] = []
    for n, picture in enumerate(pictures):
        for boxes in (picture.found, picture.real):
            every.append(np.column_stack([np.full(len(boxes), n), centres(boxes) // side]))
    _, number = np.unique(np.concatenate([np.empty((0, 3)), *every]), axis=0, return_inverse=True)
    parts = np.split(number.reshape(-1), np.cumsum([len(e) for e in every])[:-1])
    return list(zip(parts[::2], parts[1::2], strict=True))


class HeldOutObjects:
    """`geoml.engine.task.HeldOut` of objects: at the thresholds of a card, in metres."""

    def __init__(self, card: MapCard, recipe: DetectionRecipe) -> None:
        self.card, self.recipe = card, recipe
        self.names = [c.name for c in card.classes]
        self.records: list[FoundClass | None] = [
            card.detection.classes[name] if card.detection else None for name in self.names
        ]
        thresholds = [record.threshold if record else SCORE for record in self.records]
        self.scores = DetectionScores(len(self.names), thresholds)

    def add(self, answer: Sequence[NDArray[Any]], truth: NDArray[Any], window: Window) -> None:
        """Count a piece: candidates in pixels of the scene, and its target."""
        found = answer[0].copy()
        found[:, _ROW] -= window.y0
        found[:, _COL] -= window.x0
        self.scores.update(found, truth)

    def compute(self) -> dict[str, Any]:
        """As `DetectionScores`, by the names of the classes, and

        ``ap`` (mean over overlaps of 0.5 to 0.95) and ``ap75``; ``by_size`` (``from`` and ``below`` in metres, ``ap``,
        ``truth``); ``points`` (``distance`` in metres, ``precision``, ``recall``, ``f1``, ``rmse`` in metres);
        ``calibration``; ``guess``: the same scores of boxes on a lattice.
        """
        found, scores = self.scores.compute(), self.scores
        for k, row in enumerate(found["by_class"]):
            row["ap75"] = average_precision(scores.of_class(k), [0.75])
        found["ap75"] = mean(row["ap75"] for row in found["by_class"])
        found |= {
            "points": self._points(scores, scores.thresholds),
            "by_size": self._by_size(),
            "calibration": self._calibration(),
            "guess": self._guess(),
        }
        if found["nothing"]:
            found["nothing"]["ap75"] = 0.0
        return named(found, self.names)

    def _points(self, scores: BoxScores, thresholds: Sequence[float]) -> dict[str, Any]:
        most = self.recipe.match_distance
        parts = [point_scores(scores.of_class(k), t, most / self.card.gsd) for k, t in enumerate(thresholds)]
        whole = total([part for part, _ in parts])
        squares = sum(square for _, square in parts)
        rmse = self.card.gsd * float(np.sqrt(squares / whole.hits)) if whole.hits else None
        return {"distance": most, **whole.scores(), "rmse": rmse}

    def _by_size(self) -> list[dict[str, Any]]:
        sides = [longer(p.real) for k in range(len(self.names)) for p in self.scores.of_class(k)]
        real = self.card.gsd * np.concatenate([np.empty(0), *sides])
        if not len(real):
            return []
        inner = self.recipe.sizes or np.unique(np.quantile(real, THIRDS)).round(3).tolist()
        rows = []
        for least, below in zip([0.0, *inner], [*inner, float("inf")], strict=True):
            bounds = least / self.card.gsd, below / self.card.gsd
            aps = (
                average_precision(self.scores.of_class(k), OVERLAPS.tolist(), bounds) for k in range(len(self.names))
            )
            rows.append(
                {
                    "from": least,
                    "below": None if np.isinf(below) else below,
                    "ap": mean(aps),
                    "truth": int(((real >= least) & (real < below)).sum()),
                }
            )
        return rows

    def _guess(self) -> dict[str, Any] | None:
        guess = self.scores.guessed()
        parts = [counted(guess.of_class(k), 0.0) for k in range(len(self.names))]
        if not (whole := total(parts)).truth:
            return None
        ap50 = mean(average_precision(guess.of_class(k), [AP]) for k in range(len(self.names)))
        points = self._points(guess, [0.0] * len(self.names))
        return {"ap50": ap50, "f1": whole.scores()["f1"], "recall": whole.scores()["recall"], "points_f1": points["f1"]}

    def _calibration(self) -> dict[str, Any]:
        """Whether the card is ``calibrated``; ``d_ece`` of reported boxes and of all candidates; by how much the sum of
        their confidences (``sum_error``) and the expected count (``count_error``) are off the true count; how many of
        the ``squares`` of ground with something in them have their true count ``inside`` the interval."""
        confident, hits, reported = [], [], []
        truth = expected = 0.0
        known, inside, squares = True, 0, 0
        for k, record in enumerate(self.records):
            pictures = self.scores.of_class(k)
            at = squares_of(pictures, self.card.chip_size)
            fates = [p.fates(AT) for p in pictures]
            curve = Knots.of(record.knots if record else ())
            confidence = [curve(p.score) for p in pictures]
            for p, fate, sure in zip(pictures, fates, confidence, strict=True):
                counts = fate != ASIDE
                confident.append(sure[counts])
                hits.append(fate[counts] == HIT)
                reported.append(p.score[counts] >= self.scores.thresholds[k])
            real = sum(len(p.real) for p in pictures)
            truth += real
            correction = Correction.of(record.squares if record else ())
            if (ratio := correction.ratio) is None:
                known &= real == 0
                continue
            mine = np.concatenate([sure[fate != ASIDE] for sure, fate in zip(confidence, fates, strict=True)])
            expected += ratio * float(mine.sum())
            place = np.concatenate([f[fate != ASIDE] for (f, _), fate in zip(at, fates, strict=True)])
            there = np.concatenate([t for _, t in at])
            n = int(max(place.max(initial=-1), there.max(initial=-1))) + 1
            sums, powers = (np.bincount(place, weights=mine**e, minlength=n) for e in (1, 2))
            for number, a, b in zip(np.bincount(there, minlength=n), sums.tolist(), powers.tolist(), strict=True):
                if (bounds := correction.interval(a, b)) is not None:
                    squares += 1
                    inside += bounds[0] <= number <= bounds[1]
        every, hit, shown = (np.concatenate(v) for v in (confident, hits, reported))
        return {
            "calibrated": any(record is not None and record.knots for record in self.records),
            "d_ece": reliability(every[shown], hit[shown]).error(),
            "d_ece_candidates": reliability(every, hit).error(),
            "sum_error": float(every.sum()) / truth - 1 if truth else None,
            "count_error": expected / truth - 1 if truth and known else None,
            "squares": squares,
            "inside": int(inside),
        }


def named(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Scores with a name for each class."""
    return {**scores, "by_class": dict(zip(names, scores["by_class"], strict=True))}
