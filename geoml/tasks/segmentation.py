"""Segmentation: every pixel gets one class of a closed list.

Logits are (B, K, H, W); index k means ``card.classes[k]``. What is stored of them: `geoml.outputs.classes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import TrainRecipe
from geoml.errors import InputError, unknown
from geoml.io.cards.map_card import MapCard
from geoml.io.report.score_notes import score_notes
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.nn.metrics import ClassScores
from geoml.outputs.classes import STEPS
from geoml.recipe import Frozen
from geoml.tasks import _loop
from geoml.tasks._classes import HeldOutClasses, calibration, check_classes, notes
from geoml.texts import counted

if TYPE_CHECKING:
    from torch import Tensor


_COLUMNS = {"iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall"}
_TOTALS = {"miou": "mean IoU", "mean_f1": "mean F1", "overall_accuracy": "overall accuracy", "ece": "ECE"}


@final
@dataclass(frozen=True)
class Task:
    """``loss`` maps names of `geoml.nn.losses.LOSSES` to their share; ``class_weights`` has one number per class."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    card_fields: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar = "segmentation"
    recipe: ClassVar[type[Frozen]] = TrainRecipe
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "stacked"
    output: ClassVar = "classes"
    key: ClassVar = ClassScores.key
    larger_is_better: ClassVar = ClassScores.larger_is_better

    def __post_init__(self) -> None:
        from geoml.nn.losses import LOSSES  # torch, which a task that is only named does without

        if not 1 <= self.classes <= 255:
            raise InputError(f"classes: {self.classes}; expected 1 to 255")
        for part in self.loss_parts:
            if part not in LOSSES:
                raise unknown("loss", part, LOSSES)
        if not self.loss_parts or min(self.loss_parts.values()) < 0 or sum(self.loss_parts.values()) <= 0:
            raise InputError(f"loss: {dict(self.loss_parts)}; expected names with shares above zero")
        if self.class_weights is not None and len(self.class_weights) != self.classes:
            raise InputError(f"class_weights: {len(self.class_weights)} numbers for {self.classes} classes")

    @staticmethod
    def learning(recipe: TrainRecipe, train: NDArray[np.int64], val: NDArray[np.int64]) -> Task:
        """By the labelled pixels (K,) of both splits; logs which classes have none."""
        said = notes(recipe, train, val)
        return Task(len(recipe.classes), said["loss"], said["class_weights"], said)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Scalar float32 loss of (B, K, H, W) logits against (B, H, W) int64 class indices, `IGNORE` left out."""
        import torch

        from geoml.nn.losses import LOSSES

        weight = None if self.class_weights is None else torch.tensor(self.class_weights, device=raw.device)
        parts = [share * LOSSES[name](raw, target, weight) for name, share in self.loss_parts.items() if share > 0]
        return torch.stack(parts).sum()

    def scores(self) -> ClassScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return ClassScores(self.classes, STEPS)

    check_fit = staticmethod(check_classes)

    @staticmethod
    def held_out(card: MapCard, recipe: TrainRecipe) -> HeldOutClasses:
        """As `ClassScores`, by the names of the classes."""
        return HeldOutClasses([c.name for c in card.classes], ClassScores(len(card.classes), STEPS))

    check_labels = staticmethod(_loop.any_labels)
    judged = staticmethod(calibration)
    more = staticmethod(_loop.no_more)
    fit = staticmethod(_loop.fit)
    score = staticmethod(_loop.score)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each class; the totals beside those of a map that is everywhere the most common class."""
        title = f"{scores['split']} split, {counted(scores['pixels'], 'pixel')}"
        support = scores.get("support", {})  # packages from before have none
        rows = []
        for name in scores["iou"]:
            stands = (str(support.get(name, {}).get(k, "")) for k in ("pixels", "places"))
            rows.append((name, *(number(scores[k][name]) for k in _COLUMNS), *stands))
        columns = ("class", *_COLUMNS.values(), "pixels", "places")
        said = [sentence({shown: scores[k] for k, shown in _TOTALS.items()}), *score_notes(scores)]
        if base := scores.get("baseline"):
            totals = ("miou", "overall_accuracy")
            said.append(sentence({f"{_TOTALS[k]} if all were {base['class']}": base[k] for k in totals}))
        return [ScoreTable(title, columns, tuple(rows)), *said]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Classes, confusion and calibration, see `geoml.io.report.page.evaluation_report`."""
        from geoml.io.report.page import evaluation_report

        return evaluation_report(scores)
