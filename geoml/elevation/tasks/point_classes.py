"""Classes of the points of a cloud: ground, vegetation, buildings; learnt from clouds that have them.

How it learns is `geoml.elevation.training.fit`. Clouds are held out by file, never points by chance: neighbours of one
scan line are in one split.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from geoml.elevation.training.recipe import PointRecipe
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.task import OnEpoch
from geoml.errors import InputError
from geoml.io.report.score_table import ScoreTable
from geoml.recipe import Frozen
from geoml.texts import counted


@final
class Task:
    """Scored by the IoU of each class and by the errors of ground, beside the most common class and filters."""

    name: ClassVar[str] = "point_classes"
    recipe: ClassVar[type[Frozen]] = PointRecipe
    card: ClassVar[type[Frozen]] = PointCard
    input: ClassVar[str] = "points"
    output: ClassVar[str] = "elevation"
    key: ClassVar[str] = "miou"
    larger_is_better: ClassVar[bool] = True
    no_page: ClassVar[str] = "classes of points have no page of scores; leave --report out"

    @staticmethod
    def fit(recipe: PointRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """As `geoml.elevation.training.fit.fit`, which also lists the errors."""
        from geoml.elevation.training.fit import fit  # torch, which a task that is only named does without

        fit(recipe, out, on_epoch)

    @staticmethod
    def score(model: str | Path, recipe: PointRecipe, split: str) -> dict[str, Any]:
        """As `geoml.elevation.training.score.score`, which also lists the errors."""
        from geoml.elevation.training.score import score

        return score(model, recipe, split)

    @staticmethod
    def table(scores: Mapping[str, Any]) -> list[ScoreTable | str]:
        """IoU by class and errors of ground: a row for each method, then one for each cloud."""
        rows = {**scores["methods"], **scores.get("clouds", {})}
        names = list(scores["iou"])
        iou = tuple((k, *(_share(row["iou"][n]) for n in names), _share(row["miou"])) for k, row in rows.items())
        parts: list[ScoreTable | str] = [
            f"{scores['split']}, {counted(scores['points'], 'point')}: mean IoU {_share(scores['miou'])}",
            ScoreTable("IoU", ("method or cloud", *names, "mean"), iou),
        ]
        if scores["ground"] is not None:
            errors = ("type_1", "type_2", "total", "kappa")
            ground = tuple((k, *(_per_cent(row["ground"][e]) for e in errors)) for k, row in rows.items())
            columns = ("method or cloud", "lost (I)", "taken (II)", "total", "kappa")
            parts.append(ScoreTable("ground against all others, %", columns, ground))
        return parts

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Raises InputError: there is none."""
        raise InputError(f"report: {Task.no_page}")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _per_cent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
