"""Shared by tasks of the common loop, which trains and scores them; most only define their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoml.data.recipe import RasterRecipe
from geoml.engine.task import OnEpoch

if TYPE_CHECKING:
    from geoml.data.prepare import Splits
    from geoml.data.scene import Piece
    from geoml.engine.packages.calibrate import Read
    from geoml.engine.packages.package import Package


def fit(recipe: RasterRecipe, out: Path, on_epoch: OnEpoch | None = None) -> None:
    """By the common loop.

    Raises InputError for a recipe that does not fit itself or the folder, NothingFound or DataError for its data,
    ModelError if the loss is not finite.
    """
    from geoml.engine.train import fit as loop  # torch, which a task that is only named does without

    loop.fit(recipe, out, on_epoch=on_epoch)


def score(model: str | Path, recipe: RasterRecipe, split: str) -> dict[str, Any]:
    """As `geoml.engine.train.evaluate.evaluate`, which also lists the errors."""
    from geoml.engine.train.evaluate import evaluate

    return evaluate(model, recipe, split)


def no_more(package: Package, pieces: Sequence[Piece], read: Read) -> dict[str, Any]:
    """No scores beside those of the metrics."""
    return {}


def any_labels(recipe: RasterRecipe, splits: Splits, read: Read) -> None:
    """Every label is learnt."""


def no_record(package: Package, recipe: RasterRecipe, splits: Splits, read: Read) -> dict[str, Any]:
    """No field of the card beside its scores."""
    return {}
