"""Detection: objects, each a box of one class, found by their centres.

Raw output is (B, K + 4, y, x): logits of the centres of each class, and logarithms of the distances to the sides. What
is stored of them: `geoml.outputs.objects`. What is learnt: `geoml.nn.centre_loss`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from geoml.data.recipe import RasterRecipe
from geoml.data.targets.boxes import BoxTarget, boxes_of
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo, MapCard
from geoml.io.report.score_table import ScoreTable, number, sentence
from geoml.io.report.template import template
from geoml.nn.box_scores import BoxScores
from geoml.nn.centre_heat import INDEX
from geoml.nn.metrics import IGNORE
from geoml.outputs.objects import OVERLAP, SCORE
from geoml.recipe import Frozen
from geoml.tasks import _label_picture, _loop
from geoml.vector.boxes import COLUMNS

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = {"ap50": "AP50", "precision": "precision", "recall": "recall", "f1": "F1", "truth": "true", "found": "found"}
_ROW, _COL = COLUMNS.index("y"), COLUMNS.index("x")


class DetectionRecipe(RasterRecipe):
    """A training run of the task of objects."""

    classes: tuple[ClassInfo, ...] = Field(min_length=1, description="value, name and color of each kind of object")

    @property
    def target(self) -> BoxTarget:
        """Boxes of the classes."""
        return BoxTarget(self.classes)

    @property
    def card_fields(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": self.classes}

    @model_validator(mode="after")
    def _of_objects(self) -> DetectionRecipe:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values):
            raise ValueError(f"classes: a value is used twice in {values}")
        return self


class DetectionScores(BoxScores):
    """`BoxScores` against targets as `geoml.data.targets.boxes` has them."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, SCORE, OVERLAP)
        self.pixels = 0

    def update(self, found: NDArray[np.float64], truth: NDArray[Any]) -> None:
        """Add a picture: candidates (n, 8) in its pixels, and its target (6, y, x).

        A candidate with its centre in a pixel of which nothing is known does not count.
        """
        known = truth[INDEX] != IGNORE
        self.pixels += int(known.sum())
        super().update(found[known[found[:, _ROW].astype(int), found[:, _COL].astype(int)]], boxes_of(truth))

    def merge(self, other: BoxScores) -> None:
        """Add the pictures of another part."""
        super().merge(other)
        self.pixels += other.pixels if isinstance(other, DetectionScores) else 0

    def compute(self) -> dict[str, Any]:
        """As `BoxScores`, and ``pixels``: how many were searched."""
        return {**super().compute(), "pixels": self.pixels}


class HeldOutObjects:
    """`geoml.engine.task.HeldOut` of objects of classes called ``names``."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.scores = names, DetectionScores(len(names))

    def add(self, answer: Sequence[NDArray[Any]], truth: NDArray[Any], window: Window) -> None:
        """Count a piece: candidates in pixels of the scene, and its target."""
        found = answer[0].copy()
        found[:, _ROW] -= window.y0
        found[:, _COL] -= window.x0
        self.scores.update(found, truth)

    def compute(self) -> dict[str, Any]:
        """As `DetectionScores`, by the names of the classes."""
        return named(self.scores.compute(), self.names)


def named(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Scores with a name for each class."""
    return {**scores, "by_class": dict(zip(names, scores["by_class"], strict=True))}


@final
@dataclass(frozen=True)
class Task:
    """Objects of ``classes`` classes."""

    classes: int
    notes: Mapping[str, Any] = field(default_factory=dict)
    card_fields: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar = "detection"
    recipe: ClassVar[type[Frozen]] = DetectionRecipe
    card: ClassVar[type[Frozen]] = MapCard
    input: ClassVar = "mosaic"
    output: ClassVar = "objects"
    key: ClassVar = BoxScores.key
    larger_is_better: ClassVar = BoxScores.larger_is_better

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= 255:
            raise InputError(f"classes: {self.classes}; expected 1 to 255")

    @staticmethod
    def learning(recipe: DetectionRecipe, train: NDArray[np.int64], val: NDArray[np.int64]) -> Task:
        """By the boxes (K,) of both splits, which the card names. Raises InputError for a split without any."""
        names = [c.name for c in recipe.classes]
        counts = {"train": train, "val": val}
        if empty := [k for k, v in counts.items() if not v.sum()]:
            raise InputError(f"split: no box at all in {' and '.join(empty)}; nothing to learn or to choose by")
        return Task(len(names), {"boxes": {k: dict(zip(names, v.tolist(), strict=True)) for k, v in counts.items()}})

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """See `geoml.nn.centre_loss.centre_loss`."""
        from geoml.nn.centre_loss import centre_loss  # torch, which a task that is only named does without

        return centre_loss(raw, target)

    def scores(self) -> DetectionScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return DetectionScores(self.classes)

    @staticmethod
    def check_fit(card: MapCard, recipe: DetectionRecipe) -> None:
        """Raise InputError where the classes of a card are not those of a recipe."""
        mine, theirs = ({c.value: c.name for c in known.classes} for known in (card, recipe))
        if mine != theirs:
            raise InputError(f"classes: the model knows {mine}, the recipe has {theirs}")

    @staticmethod
    def held_out(card: MapCard, recipe: DetectionRecipe) -> HeldOutObjects:
        """As `DetectionScores`, by the names of the classes."""
        return HeldOutObjects([c.name for c in card.classes])

    more = staticmethod(_loop.no_more)
    fit = staticmethod(_label_picture.fit)
    score = staticmethod(_loop.score)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """A row for each class; the totals beside those of a map without any object."""
        rows = [(name, *(number(row[k]) for k in _COLUMNS)) for name, row in scores["by_class"].items()]
        title = f"{scores['split']} split, {scores['truth']} true boxes"
        said = [sentence({shown: scores[k] for k, shown in _COLUMNS.items()})]
        if scores["count_error"] is not None:
            said.append(f"count {scores['count_error']:+.1%}")
        said.append(f"AP50 at an overlap of 0.5; all else at 0.4 and a score of {scores['confident']:g} or more")
        if base := scores.get("nothing"):
            said.append(sentence({_COLUMNS[k]: base[k] for k in ("ap50", "recall", "f1")}, "a map without objects: "))
        return [ScoreTable(title, ("class", *_COLUMNS.values()), tuple(rows)), *said]

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """The same as one HTML page."""
        table, *said = Task.table(scores)
        page = template(Path(__file__).with_name("_detection_page.html.j2"))
        return page.render(model=scores.get("model", "a model"), table=table, said=said, labels=scores.get("labels"))
