"""Detection: objects, each a box of one class.

Raw output is (B, K + 4, y, x): logits of each class, and logarithms of the distances to the sides; of oriented boxes
(B, K + 6, y, x), with masks (B, K + 53, y, x). What is stored of them: `geoml.outputs.objects`. What is learnt:
`geoml.nn.objects.centre_loss`, or the loss of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from geoml.data.recipe import RasterRecipe
from geoml.data.targets.boxes import BoxTarget
from geoml.errors import InputError
from geoml.io.cards.map_card import ClassInfo, MapCard
from geoml.io.report.template import template
from geoml.nn.objects.box_scores import BoxScores
from geoml.recipe import Frozen
from geoml.tasks import _detection_record, _detection_table, _label_picture, _loop
from geoml.tasks._detection_scores import DetectionScores, HeldOutObjects

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.data.prepare import Splits
    from geoml.engine.packages.calibrate import Read
    from geoml.engine.packages.package import Package


class AtPrecision(Frozen):
    """The lowest threshold of each class from which on so large a share of its boxes is right."""

    precision: float = Field(gt=0, le=1, description="on the validation split, at an overlap of 0.4")


class DetectionRecipe(RasterRecipe):
    """A training run of the task of objects."""

    later: ClassVar[tuple[str, ...]] = (*RasterRecipe.later, "threshold", "match_distance", "sizes", "rounded")

    classes: tuple[ClassInfo, ...] = Field(min_length=1, description="value, name and color of each kind of object")
    threshold: Literal["f1"] | AtPrecision = Field(
        default="f1", description="lowest score of reported boxes, by class: f1 for the best F1, or {precision: 0.9}"
    )
    match_distance: float = Field(
        default=6.0, gt=0, description="metres within which centres match in `geoml evaluate`"
    )
    sizes: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(), max_length=20,
        description="longer sides in metres that separate the size groups of AP; by default thirds of the true boxes",
    )  # fmt: skip
    rounded: float = Field(
        default=0.0, ge=0, le=1,
        description="how far the corners of an object in an upright box are rounded, as a share of half the"
        " shorter side, for augmentation.rotate: 0 for roofs, 1 for crowns and discs",
    )  # fmt: skip

    @property
    def target(self) -> BoxTarget:
        """Boxes of the classes, oriented or with outlines where the model is of these."""
        config = self.model.config
        return BoxTarget(self.classes, bool(config.get("oriented")), self.rounded, bool(config.get("masks")))

    @property
    def card_fields(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": self.classes}

    @model_validator(mode="after")
    def _of_objects(self) -> DetectionRecipe:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values):
            raise ValueError(f"classes: a value is used twice in {values}")
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes: {list(self.sizes)}; expected each larger than the one before")
        return self

    @property
    def least_precision(self) -> float | None:
        """That thresholds are chosen by; None: by F1."""
        return None if self.threshold == "f1" else self.threshold.precision


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
        """See `geoml.nn.objects.centre_loss.centre_loss`."""
        from geoml.nn.objects.centre_loss import centre_loss  # torch, which a task that is only named does without

        return centre_loss(raw, target)

    def scores(self) -> DetectionScores:
        """An empty accumulator of metrics; feed it the answers of the output."""
        return DetectionScores(self.classes)

    @staticmethod
    def check_fit(card: MapCard, recipe: DetectionRecipe) -> None:
        """Raise InputError if the classes of a card are not those of a recipe."""
        mine, theirs = ({c.value: c.name for c in known.classes} for known in (card, recipe))
        if mine != theirs:
            raise InputError(f"classes: the model knows {mine}, the recipe has {theirs}")

    @staticmethod
    def held_out(card: MapCard, recipe: DetectionRecipe) -> HeldOutObjects:
        """At the thresholds of the card, by the names of the classes."""
        return HeldOutObjects(card, recipe)

    @staticmethod
    def check_labels(recipe: DetectionRecipe, splits: Splits, read: Read) -> None:
        """Boxes fit into a chip, and both splits have some; see `_detection_record.check_sides`."""
        sides = {k: _detection_record.sides_of(splits[k], recipe, read) for k in ("train", "val")}
        _detection_record.check_sides(recipe, sides)

    @staticmethod
    def judged(package: Package, recipe: DetectionRecipe, splits: Splits, read: Read) -> dict[str, Any]:
        """The record of thresholds, calibration and counts, by the validation split."""
        from geoml.engine.train.evaluate import find_in  # torch, which a task that is only named does without

        held = HeldOutObjects(package.card, recipe)
        find_in(package, splits["val"], recipe, held, read)
        sides = _detection_record.sides_of(splits["train"], recipe, read)
        return {"detection": _detection_record.record(package.card, recipe, held.scores, sides)}

    more = staticmethod(_loop.no_more)
    fit = staticmethod(_label_picture.fit)
    score = staticmethod(_loop.score)
    table = staticmethod(_detection_table.table)

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """The same as one HTML page."""
        page = template(Path(__file__).with_name("_detection_page.html.j2"))
        return page.render(model=scores.get("model", "a model"), parts=Task.table(scores), labels=scores.get("labels"))
