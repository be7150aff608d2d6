"""Change: every pixel of a place seen on two dates or more is unchanged (class 0) or changed in one of several ways.

Logits are (B, K, H, W); index 0 means unchanged, so K = 2 is change or none and a larger K has from-to classes. What is
stored of them: `geoml.outputs.changes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import ChangeRecipe
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.nn.change_scores import ChangeScores
from geoml.nn.metrics import IGNORE
from geoml.outputs.classes import STEPS
from geoml.recipe import Frozen
from geoml.tasks import _loop, segmentation
from geoml.tasks._classes import HeldOutClasses, calibration, check_classes, notes
from geoml.texts import percent

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.data.scene import Piece
    from geoml.engine.packages.calibrate import Read
    from geoml.engine.packages.package import Package


@final
@dataclass(frozen=True)
class Task:
    """Options as of `geoml.tasks.segmentation`; at least two classes."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    card_fields: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar = "change"
    recipe: ClassVar[type[Frozen]] = ChangeRecipe
    card: ClassVar[type[Frozen]] = segmentation.Task.card
    input: ClassVar = "dated_pair"
    output: ClassVar = "changes"
    key: ClassVar = ChangeScores.key
    larger_is_better: ClassVar = ChangeScores.larger_is_better

    check_labels = staticmethod(_loop.any_labels)
    judged = staticmethod(calibration)
    fit = staticmethod(_loop.fit)
    score = staticmethod(_loop.score)
    page = staticmethod(segmentation.Task.page)

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"classes: {self.classes}; change needs unchanged and at least one more")
        segmentation.Task(self.classes, self.loss_parts, self.class_weights)

    @staticmethod
    def learning(recipe: ChangeRecipe, train: NDArray[np.int64], val: NDArray[np.int64]) -> Task:
        """As of segmentation."""
        said = notes(recipe, train, val)
        return Task(len(recipe.classes), said["loss"], said["class_weights"], said)

    @property
    def _plain(self) -> segmentation.Task:
        return segmentation.Task(self.classes, self.loss_parts, self.class_weights)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """As of segmentation."""
        return self._plain.loss(raw, target)

    def scores(self) -> ChangeScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return ChangeScores(self.classes, STEPS)

    @staticmethod
    def check_fit(card: MapCard, recipe: ChangeRecipe) -> None:
        """A model of changed or not fits a recipe of several changes: then those are one. Raises InputError."""
        if not _merged(card, recipe):
            check_classes(card, recipe)

    @staticmethod
    def held_out(card: MapCard, recipe: ChangeRecipe) -> _HeldOutChanges:
        """As of segmentation, and ``change``, see `geoml.nn.change_scores`."""
        return _HeldOutChanges(card, _merged(card, recipe))

    @staticmethod
    def more(package: Package, pieces: Sequence[Piece], read: Read) -> dict[str, Any]:
        """``consistency`` of equal and turned dates. A score that is not a probability has no calibration."""
        from geoml.engine.packages.calibrate import is_calibrated
        from geoml.engine.train.consistency import consistency

        found: dict[str, Any] = {} if is_calibrated(package) else {"ece": None, "calibration": []}
        return {**found, "consistency": consistency(package, pieces, read)}

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """As of segmentation, and all changes together, the objects by size, and what equal and turned dates give."""
        shown = segmentation.Task.table(scores)
        change, consistency = scores.get("change") or {}, scores.get("consistency") or {}
        if known := {said: change[k] for k, said in _TOGETHER.items() if k in change}:
            shown.append(sentence(known, "any change against none: "))
        if sizes := change.get("by_size"):
            rows = ((_span(r), str(r["objects"]), number(r["recall"]), number(r["pixel_recall"])) for r in sizes)
            shown.append(ScoreTable("", ("changed objects", "in truth", "found", "of their pixels"), tuple(rows)))
        for key, said in _KNOWN.items():
            if consistency.get(key) is not None:
                shown.append(f"{said} {percent(consistency[key], 2)}")
        return shown


def _merged(card: MapCard, recipe: ChangeRecipe) -> bool:
    return len(card.classes) == 2 < len(recipe.classes)


class _HeldOutChanges(HeldOutClasses):
    """Scores of changes; with ``merge`` any change is one. Objects by size are counted in whole pieces."""

    def __init__(self, card: MapCard, merge: bool) -> None:
        self.changes, self.merge, self.area = ChangeScores(len(card.classes), STEPS), merge, card.gsd**2
        super().__init__([c.name for c in card.classes], self.changes)

    def add(self, answer: Sequence[NDArray[Any]], truth: NDArray[Any], window: Window) -> None:
        if self.merge:
            truth = np.where((truth > 1) & (truth != IGNORE), 1, truth)
        super().add(answer, truth, window)
        self.changes.objects(answer[0], truth)

    def compute(self) -> dict[str, Any]:
        """Sizes are in m² too."""
        found = super().compute()
        for row in found["change"].get("by_size", ()):
            row |= {f"{k}_m2": None if row[k] is None else row[k] * self.area for k in ("from", "below")}
        return found


_TOGETHER = {
    "f1": "F1",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "kappa": "kappa",
    "average_precision": "average precision",
}
_KNOWN = {
    "equal_dates": "changed when a date is compared with itself",
    "swapped": "the same change the other way when the dates are turned round",
}
"""What the dates alone should not change."""


def _span(row: Mapping[str, Any]) -> str:
    """From which size to which; the scores of a card count in pixels."""
    unit = "m²" if "from_m2" in row else "pixels"
    low, high = (row["from_m2"], row["below_m2"]) if "from_m2" in row else (row["from"], row["below"])
    return f"from {low:g} {unit}" if high is None else f"{low:g} to {high:g} {unit}"
