"""The record of scores and counts in the card of a detector, from the validation split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from geoml.data.targets.boxes import boxes_of
from geoml.errors import InputError
from geoml.io.cards.detection import MOST, Detection, FoundClass, Sizes
from geoml.nn.objects.box_calibration import (
    LEAST,
    Knots,
    PrecisionRecall,
    at_precision,
    best_f1,
    crossed,
    curve_of,
    fitted,
    reliability,
)
from geoml.nn.objects.box_matching import ASIDE, HIT
from geoml.nn.objects.box_scores import AT, PictureBoxes, counted, longer
from geoml.outputs.objects import LOW, SCORE
from geoml.tasks._detection_scores import DetectionScores, squares_of
from geoml.texts import listed

if TYPE_CHECKING:
    from geoml.data.scene import Piece
    from geoml.engine.packages.calibrate import Read
    from geoml.io.cards.map_card import MapCard
    from geoml.tasks.detection import DetectionRecipe

log = logging.getLogger(__name__)

POINTS = 40
"""Of a curve of precision and recall."""
FOLDS = 5
"""Squares of ground are dealt into so many parts; what is said of one is by curves that were fitted to the others."""
REFUSED = 0.1
"""Share of training boxes that are too large to be seen from which on a training is refused."""


def record(card: MapCard, recipe: DetectionRecipe, scores: DetectionScores, sides: NDArray[np.float64]) -> Detection:
    """Of the validation split. ``sides`` (n,) are the longer sides of the training boxes, in pixels."""
    names = [c.name for c in card.classes]
    classes = {
        name: _found_class(name, scores.of_class(k), card.chip_size, recipe.least_precision)
        for k, name in enumerate(names)
    }
    if weak := [name for name, one in classes.items() if one.calibration is None]:
        log.warning(
            "val: fewer than %d boxes of %s are matched: their scores are not calibrated, their counts not corrected",
            LEAST,
            listed(weak),
        )
    square = card.chip_size * card.gsd
    return Detection(least=LOW, square=square, sizes=_sizes(card, sides), classes=classes)


def _found_class(name: str, pictures: Sequence[PictureBoxes], side: int, precision: float | None) -> FoundClass:
    truth = sum(len(p.real) for p in pictures)
    at = squares_of(pictures, side)
    fates = [p.fates(AT) for p in pictures]
    score = np.concatenate([p.score[fate != ASIDE] for p, fate in zip(pictures, fates, strict=True)])
    hit = np.concatenate([fate[fate != ASIDE] == HIT for fate in fates])
    square = np.concatenate([found[fate != ASIDE] for (found, _), fate in zip(at, fates, strict=True)])
    there = np.concatenate([real for _, real in at])
    curve, (how, knots) = curve_of(score, hit), fitted(score, hit)
    threshold, chosen = _threshold(name, curve, truth, precision) if how else (SCORE, "default")
    sure = counted(pictures, threshold)
    told = FoundClass(
        threshold=threshold, chosen=chosen, calibration=None, candidates=len(score), matched=int(hit.sum()),
        truth=truth, found=sure.found, hits=sure.hits, curve=_points(curve, truth),
    )  # fmt: skip
    if not how:
        return told
    confidence = crossed(score, hit, square % FOLDS)
    bins = reliability(confidence, hit)
    rows = zip(*(column.tolist() for column in (bins.confidence.round(4), bins.true.round(4), bins.boxes)), strict=True)
    return told.model_copy(
        update={
            "calibration": cast(Literal["isotonic", "platt"], how),
            "knots": _rounded(knots),
            "reliability": tuple(rows),
            "d_ece": bins.error(),
            "squares": _squares(confidence, square, there),
        }
    )


def _threshold(name: str, curve: PrecisionRecall, truth: int, precision: float | None) -> tuple[float, str]:
    if precision is None:
        return best_f1(curve, truth, LOW), "f1"
    found = at_precision(curve, precision, LOW)
    if found is None:
        log.warning(
            "threshold: %s has no score that reaches a precision of %g on validation data; the best F1 is used",
            name,
            precision,
        )
        return best_f1(curve, truth, LOW), f"f1, since precision {precision:g} is not reached"
    return found, f"precision {precision:g}"


def _points(curve: PrecisionRecall, truth: int) -> tuple[tuple[float, float, float], ...]:
    if not truth:
        return ()
    few = curve.thinned(POINTS)
    columns = few.score.round(4), few.precision().round(4), (few.hits / truth).round(4)
    return tuple(zip(*(c.tolist() for c in columns), strict=True))


def _rounded(knots: Knots) -> tuple[tuple[float, float], ...]:
    score, first = np.unique(knots.score.round(6), return_index=True)
    return tuple(zip(score.tolist(), knots.confidence[first].round(6).tolist(), strict=True))


def _squares(
    confidence: NDArray[np.float64], square: NDArray[np.int64], there: NDArray[np.int64]
) -> tuple[tuple[float, int], ...]:
    """Sums and true numbers; neighbours are put together where there are more than a card holds."""
    n = int(max(square.max(initial=-1), there.max(initial=-1))) + 1
    size = -(-n // MOST)
    many = -(-n // size)
    sums = np.bincount(square // size, weights=confidence, minlength=many).round(4)
    return tuple(zip(sums.tolist(), np.bincount(there // size, minlength=many).tolist(), strict=True))


def sides_of(pieces: Sequence[Piece], recipe: DetectionRecipe, read: Read) -> NDArray[np.float64]:
    """(n,) longer sides in pixels of the boxes of pieces that are learnt."""
    found = [np.empty(0)]
    for piece in pieces:
        boxes = boxes_of(recipe.target.cut(read(piece.scene).target, piece.window, piece.window))
        found.append(longer(boxes[boxes[:, 1] == 0, 2:]))
    return np.concatenate(found)


def check_sides(recipe: DetectionRecipe, counts: Mapping[str, NDArray[np.float64]]) -> None:
    """Warn of boxes of the splits ``train`` and ``val``, (n,) longer sides in pixels, that are larger than a chip.

    Raises InputError if too many of the training are too large.
    """
    sides, most = counts["train"], recipe.chip_size
    if not (large := int((sides > most).sum())):
        return
    said = (
        f"{large} of {len(sides)} training boxes are longer than a chip of {most} pixels ({most * recipe.gsd:g} m), the"
        f" longest {sides.max() * recipe.gsd:.4g} m: what is so large is only found in coarser pixels (--pyramid of"
        f" geoml predict)"
    )
    if large > REFUSED * len(sides):
        raise InputError(f"chip_size: {said}; take larger chips, a coarser gsd, or leave these out")
    log.warning("chip_size: %s", said)


def _sizes(card: MapCard, sides: NDArray[np.float64]) -> Sizes:
    seen = card.chip_size if card.radius is None else min(card.chip_size, 2 * card.radius + 1)
    if large := int((sides > seen).sum()):
        log.warning(
            "%d of %d training boxes are longer than the %g m that the network sees around a centre (%d pixels, chips"
            " of %d): it guesses where they end",
            large, len(sides), seen * card.gsd, seen, card.chip_size,
        )  # fmt: skip
    least, most = (round(float(v) * card.gsd, 3) for v in (sides.min(), sides.max()))
    return Sizes(least=least, most=most, seen=seen * card.gsd)
