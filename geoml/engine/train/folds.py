"""Cross-validation over ground: every group of scenes is scored by a network trained on the others.

The network that is kept learns from all groups, so nobody can score it; these scores are of its recipe. No label of a
group has a part in how sure the answers on it are: their temperature is that of the other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.data.prepare import prepare
from geoml.data.recipe import Folds, RasterRecipe
from geoml.data.scene import Piece
from geoml.data.target import Labels
from geoml.engine.packages import package
from geoml.engine.packages.calibrate import Read
from geoml.engine.packages.package import Package
from geoml.engine.task import HeldOut, find_pixel_task
from geoml.engine.train.calibration import fitted_temperature
from geoml.engine.train.evaluate import find_in
from geoml.grid.plane import Window
from geoml.io.cards.map_card import TEMPERATURE

SPLIT = "folds"
"""What scores call the split."""


@dataclass(frozen=True)
class Fold:
    """A group of scenes, and the package that has not seen it."""

    name: str
    package: Package
    pieces: Sequence[Piece]


def train_folds(recipe: RasterRecipe, folder: Path, fit: Callable[[RasterRecipe, Path], object]) -> list[Fold]:
    """A training for each group, below ``folder``, where those that are there are not made again; none for a recipe
    whose split has no folds, or holds one of them out."""
    split = recipe.split
    if not isinstance(split, Folds) or split.hold is not None:
        return []
    found = []
    for name in split.of:
        part = recipe.model_copy(update={"split": split.model_copy(update={"hold": name})})
        fit(part, folder / name)
        found.append(Fold(name, package.load(str(folder / name)), prepare(part)["test"]))
    return found


def score_folds(folds: Sequence[Fold], recipe: RasterRecipe, read: Read) -> tuple[dict[str, Any], float | None]:
    """Scores over all folds together, with those of each below ``folds``, and the temperature of all of them; None
    where the task has none."""
    task, first = find_pixel_task(recipe.task), folds[0].package.card
    every = task.held_out(first, recipe)
    each: dict[str, Any] = {}
    for fold in folds:
        others = [other for other in folds if other is not fold]
        asked = _with_temperature(fold, _temperature(others, recipe, read)) if others else fold
        mine = task.held_out(first, recipe)
        find_in(asked.package, asked.pieces, recipe, _Both(mine, every), read)
        each[fold.name] = mine.compute()
    scenes = len({piece.scene.id for fold in folds for piece in fold.pieces})
    return {"split": SPLIT, **every.compute(), "scenes": scenes, "folds": each}, _temperature(folds, recipe, read)


@dataclass(frozen=True)
class _Both:
    """Counts a piece for a fold and for all of them."""

    mine: HeldOut
    every: HeldOut

    def add(self, answer: Sequence[NDArray[np.number]], truth: Labels, window: Window) -> None:
        self.mine.add(answer, truth, window)
        self.every.add(answer, truth, window)

    def compute(self) -> dict[str, Any]:
        return self.mine.compute()


def _temperature(folds: Sequence[Fold], recipe: RasterRecipe, read: Read) -> float | None:
    if TEMPERATURE not in folds[0].package.card.made:
        return None
    return fitted_temperature([(_with_temperature(f, 1.0).package, f.pieces) for f in folds], recipe, read)


def _with_temperature(fold: Fold, temperature: float | None) -> Fold:
    if temperature is None:
        return fold
    card = fold.package.card
    made = {**card.made, TEMPERATURE: temperature}
    return replace(fold, package=replace(fold.package, card=card.model_copy(update={"made": made})))
