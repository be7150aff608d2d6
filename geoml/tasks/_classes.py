"""Shared by tasks with classes: class weights from the labels, and scores of whole pieces with a name per class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import TrainRecipe
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import TEMPERATURE, MapCard
from geoml.io.report.score_notes import few_labels
from geoml.nn.change_scores import ChangeScores
from geoml.nn.metrics import ClassScores
from geoml.nn.support import Support

if TYPE_CHECKING:
    from geoml.data.prepare import Splits
    from geoml.engine.packages.calibrate import Read
    from geoml.engine.packages.package import Package

log = logging.getLogger(__name__)


def class_weights(recipe: TrainRecipe, labelled: NDArray[np.int64]) -> list[float] | None:
    """One weight for each class, mean 1 over train pixels for ``auto``; a class without pixels gets the largest."""
    given = recipe.loss.weights
    if given == "none":
        return None
    if given != "auto":
        return list(given)
    share = labelled / max(labelled.sum(), 1)
    raw = 1 / np.maximum(share, 1e-12)
    raw = np.minimum(raw, 10 * raw.min())
    return [float(w) for w in raw / (raw * share).sum()]


RARE = 0.05
"""Share of the labelled pixels below which a class is rare."""


def loss_parts(recipe: TrainRecipe, labelled: NDArray[np.int64]) -> dict[str, float]:
    """What the recipe says; for ``auto`` Dice, which does not see how many pixels a class has, beside cross-entropy, or
    beside focal loss where a class is rare."""
    given = recipe.loss.parts
    if given != "auto":
        return dict(given)
    seen = labelled[labelled > 0]
    rare = seen.size > 0 and seen.min() < RARE * seen.sum()
    return {"focal" if rare else "cross_entropy": 1.0, "dice": 0.5}


def notes(recipe: TrainRecipe, train: NDArray[np.int64], val: NDArray[np.int64]) -> dict[str, Any]:
    """For the card: labelled pixels (K,) of train by class, weights, and classes without one; these are logged too."""
    names = [c.name for c in recipe.classes]
    absent = {
        split: missing
        for split, labelled in {"train": train, "val": val}.items()
        if (missing := [name for name, n in zip(names, labelled, strict=True) if not n])
    }
    if "train" in absent:
        log.warning("train: no labelled pixel of %s; it cannot be learnt", ", ".join(absent["train"]))
    if "val" in absent:
        log.warning(
            "val: no labelled pixel of %s, so there is no mIoU to choose weights by; the last ones are kept",
            ", ".join(absent["val"]),
        )
    said = {
        "labelled_pixels": dict(zip(names, train.tolist(), strict=True)),
        "class_weights": class_weights(recipe, train),
        "loss": loss_parts(recipe, train),
    }
    return said | ({"absent": absent} if absent else {})


def calibration(package: Package, recipe: TrainRecipe, splits: Splits, read: Read) -> dict[str, Any]:
    """``made`` with the temperature that fits the validation split."""
    from geoml.engine.train.calibration import fitted_temperature

    return {"made": {**package.card.made, TEMPERATURE: fitted_temperature([(package, splits["val"])], recipe, read)}}


def check_classes(card: MapCard, recipe: TrainRecipe) -> None:
    """Raise InputError if the classes of a card are not those of a recipe."""
    mine = {c.value: c.name for c in card.classes}
    theirs = {c.value: c.name for c in recipe.classes}
    if mine != theirs:
        raise InputError(f"classes: the model knows {mine}, the recipe has {theirs}")


class HeldOutClasses:
    """`geoml.engine.task.HeldOut` of classes called ``names``."""

    def __init__(self, names: Sequence[str], metrics: ClassScores | ChangeScores) -> None:
        self.names, self.metrics, self.support = names, metrics, Support(len(names))

    def add(self, answer: Sequence[NDArray[Any]], truth: NDArray[Any], window: Window) -> None:
        """Count a piece: index and what stands beside it, and the true index (y, x)."""
        index, beside = answer
        self.metrics.update(index, beside, truth)
        self.support.update(truth)

    def compute(self) -> dict[str, Any]:
        """See `named`."""
        return named(self.metrics.compute(), self.names, self.support)


def named(scores: Mapping[str, Any], names: Sequence[str], support: Support) -> dict[str, Any]:
    """Scores with a name for each class, what they stand on, and what the most common class everywhere would score."""
    per_class = ("iou", "f1", "precision", "recall")
    out = {k: dict(zip(names, v, strict=True)) if k in per_class else v for k, v in scores.items()}
    out["absent"] = [names[k] for k in scores["absent"]]
    out["support"] = dict(zip(names, support.compute(), strict=True))
    out["few"] = few_labels(out["support"])
    truth = np.array(scores["confusion"]).sum(1)
    if truth.sum():
        share = float(truth.max() / truth.sum())
        miou = share / len(names) if truth.all() else None
        out["baseline"] = {"class": names[int(truth.argmax())], "overall_accuracy": share, "miou": miou}
    return out
