"""Held-out scores of a model package on a split of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoml import models
from geoml.data.chips import Reader, cut
from geoml.data.prepare import held_out, prepare, scenes
from geoml.data.recipe import RasterRecipe
from geoml.data.scene import Piece
from geoml.engine.contract import Backend
from geoml.engine.inference.predict import Predictor, map_sample
from geoml.engine.packages import package
from geoml.engine.packages.calibrate import Read, calibrated, is_calibrated, sample_pixels
from geoml.engine.task import HeldOut, find_pixel_task
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.io.units import differ

ALL = "all"
"""In place of a split: every pixel of every scene."""


def evaluate(model: str | Path, recipe: RasterRecipe, split: str = "test") -> dict[str, Any]:
    """Scores of a package (name or folder) on ``split`` of the recipe, or on ``all`` of it, as plain JSON values.

    Which they are is the task's business: see ``held_out`` of its file, and `docs/training.md`. Every labelled pixel
    with data counts once. Raises InputError for an empty split and when model and recipe differ.
    """
    loaded = package.load(str(model))
    check_fit(loaded.card, recipe)
    asked = in_its_units(recipe, loaded.card)
    pieces = _whole(loaded, asked) if split == ALL else held_out(prepare(asked), split)
    found = score(loaded, pieces, asked)
    return {"model": loaded.card.name, "sha256": loaded.card.sha256, "recipe": recipe.hash, "split": split, **found}


def in_its_units(recipe: RasterRecipe, card: MapCard) -> RasterRecipe:
    """The recipe with the model's units where it says none: items are then converted as in prediction."""
    pairs = zip(card.bands, recipe.band_units, strict=True)
    units = {b.name: u for b, given in pairs if (u := given or b.unit) is not None}
    return recipe.model_copy(update={"units": units})


def _whole(loaded: package.Package, recipe: RasterRecipe) -> list[Piece]:
    """Every scene in one piece. Raises InputError for a model that may have learned from them."""
    if not models.calibrated(loaded.card.architecture):
        raise InputError(f"split: {ALL} is for models that learn nothing; {loaded.card.name} was trained")
    return [Piece(scene, scene.window, ALL) for scene in scenes(recipe)]


def check_fit(card: MapCard, recipe: RasterRecipe) -> None:
    """Raise InputError, naming the field, where the card and the recipe speak of different things."""
    if card.task != recipe.task:
        raise InputError(f"task: the model is for {card.task}, the recipe for {recipe.task}")
    have, want = [b.name for b in card.bands], list(recipe.bands)
    if have != want:
        raise InputError(f"bands: the model takes {have}, the recipe gives {want}")
    for band, unit in zip(card.bands, recipe.band_units, strict=True):
        if differ(unit, band.unit):
            raise InputError(f"units: the model takes {band.name} in {band.unit}, the recipe gives {unit}")
    if card.dates != recipe.dates:
        raise InputError(f"dates: the model takes {card.dates}, the recipe gives {recipe.dates}")
    find_pixel_task(card.task).check_fit(card, recipe)
    if abs(card.gsd / recipe.gsd - 1) > 0.1:
        raise InputError(f"gsd: the model is for {card.gsd} m, the recipe has {recipe.gsd} m")


def score(
    loaded: package.Package,
    pieces: Sequence[Piece],
    recipe: RasterRecipe,
    reader: Reader | None = None,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """Scores of a package over pieces of a recipe that it fits, as its task has them.

    The map that is scored is made by the predict loop, so chips are joined and quantised as in a real run. What lies
    outside a piece is no data to the model, so no other split lends its context. A model that is calibrated, and is
    not yet, is calibrated on pixels of these pieces; their labels take no part. ``backend`` runs the network; None is
    PyTorch by the settings.
    """
    card, read = loaded.card, reader or Reader()
    task = find_pixel_task(card.task)
    scores = task.held_out(card, recipe)
    find_in(loaded, pieces, recipe, scores, read, backend)
    return {
        **scores.compute(),
        "scenes": len({p.scene.id for p in pieces}),
        **task.more(loaded, pieces, read),
    }


def find_in(
    loaded: package.Package,
    pieces: Sequence[Piece],
    recipe: RasterRecipe,
    scores: HeldOut,
    read: Read,
    backend: Backend | None = None,
) -> None:
    """Add what a package answers on pieces of a recipe, and what is true there, to ``scores``; see `score`."""
    if not is_calibrated(loaded):
        loaded = calibrated(loaded, sample_pixels(pieces, read))
    predictor, kind = Predictor(loaded, backend=backend), recipe.target
    for piece in pieces:
        seen = cut(read(piece.scene), piece.window, piece.window, kind)
        answers = [predictor.output.answer(rows) for rows in map_sample(predictor, read(piece.scene), piece.window)]
        whole = [np.concatenate(column) for column in zip(*answers, strict=True)]
        scores.add(whole, kind.only(seen.target, seen.valid), piece.window)
