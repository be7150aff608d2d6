"""Change: every pixel of a place seen on two dates or more is unchanged (class 0) or changed in one of several ways.

Logits are (B, K, H, W); index 0 means unchanged, so K = 2 is change or none and a larger K has from-to classes. What is
stored of them: `geoml.outputs.changes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

from geoml.errors import InputError
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.nn.change_scores import ChangeScores
from geoml.outputs.classes import STEPS
from geoml.recipe import Frozen
from geoml.tasks import segmentation

if TYPE_CHECKING:
    from torch import Tensor


@final
@dataclass(frozen=True)
class Task:
    """Options as of `geoml.tasks.segmentation`; at least two classes."""

    classes: int
    loss_parts: Mapping[str, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: Sequence[float] | None = None

    name: ClassVar = "change"
    recipe: ClassVar[type[Frozen]] = segmentation.Task.recipe
    card: ClassVar[type[Frozen]] = segmentation.Task.card
    input: ClassVar = "dated_pair"
    output: ClassVar = "changes"
    key: ClassVar = ChangeScores.key
    larger_is_better: ClassVar = ChangeScores.larger_is_better

    fit = staticmethod(segmentation.Task.fit)
    score = staticmethod(segmentation.Task.score)
    page = staticmethod(segmentation.Task.page)

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"classes: {self.classes}; change needs unchanged and at least one more")
        segmentation.Task(self.classes, self.loss_parts, self.class_weights)

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
                shown.append(f"{said} {consistency[key]:.2%}")
        return shown


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
