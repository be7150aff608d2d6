"""Held-out scores of a model package on a split of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoml import models
from geoml.data.chips import Reader
from geoml.data.prepare import held_out, prepare, scenes
from geoml.data.recipe import TrainRecipe
from geoml.data.scene import Piece
from geoml.engine.contract import output_of
from geoml.engine.inference.predict import Predictor, map_sample
from geoml.engine.packages import package
from geoml.engine.packages.calibrate import calibrated, is_calibrated, sample_pixels
from geoml.engine.task import find_pixel_task
from geoml.engine.train.consistency import consistency
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.io.report.score_notes import few_labels
from geoml.io.units import differ
from geoml.nn.change_scores import ChangeScores
from geoml.nn.metrics import IGNORE
from geoml.nn.support import Support

ALL = "all"
"""In place of a split: every pixel of every scene."""


def evaluate(model: str | Path, recipe: TrainRecipe, split: str = "test") -> dict[str, Any]:
    """Scores of a package (name or folder) on ``split`` of the recipe, or on ``all`` of it, as plain JSON values.

    Per class: iou, f1, precision, recall, ``support`` (labelled pixels and places); over all: overall_accuracy, miou,
    mean_f1, confusion (rows: truth), ece and calibration bins, pixels counted, and ``baseline``: the same for a map
    that is everywhere the commonest class. ``absent`` names classes without a labelled pixel, because of which miou
    and mean_f1 are None; ``few`` names those whose scores rest on few pixels or places, see
    `geoml.io.report.score_notes`. The task change adds ``change``, see `geoml.nn.change_scores`. Every labelled pixel
    with data counts once. Raises InputError for an empty split and when model and recipe differ.
    """
    loaded = package.load(str(model))
    check_fit(loaded.card, recipe)
    asked = _in_its_units(recipe, loaded.card)
    pieces = _whole(loaded, asked) if split == ALL else held_out(prepare(asked), split)
    found = score(loaded, pieces, merge=merged(loaded.card, recipe))
    return {"model": loaded.card.name, "sha256": loaded.card.sha256, "recipe": recipe.hash, "split": split, **found}


def _in_its_units(recipe: TrainRecipe, card: MapCard) -> TrainRecipe:
    """The recipe with the model's units where it says none: items are then converted as in prediction."""
    pairs = zip(card.bands, recipe.band_units, strict=True)
    units = {b.name: u for b, given in pairs if (u := given or b.unit) is not None}
    return recipe.model_copy(update={"units": units})


def _whole(loaded: package.Package, recipe: TrainRecipe) -> list[Piece]:
    """Every scene in one piece. Raises InputError for a model that may have learned from them."""
    if not models.calibrated(loaded.card.architecture):
        raise InputError(f"split: {ALL} is for models that learn nothing; {loaded.card.name} was trained")
    return [Piece(scene, scene.window, ALL) for scene in scenes(recipe)]


def check_fit(card: MapCard, recipe: TrainRecipe) -> None:
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
    mine = {c.value: c.name for c in card.classes}
    theirs = {c.value: c.name for c in recipe.classes}
    if mine != theirs and not merged(card, recipe):
        raise InputError(f"classes: the model knows {mine}, the recipe has {theirs}")
    if abs(card.gsd / recipe.gsd - 1) > 0.1:
        raise InputError(f"gsd: the model is for {card.gsd} m, the recipe has {recipe.gsd} m")


def merged(card: MapCard, recipe: TrainRecipe) -> bool:
    """True for a model of changed or not on a recipe of several changes: then those are one."""
    return output_of(card).changes and len(card.classes) == 2 < len(recipe.classes)


def score(
    loaded: package.Package, pieces: Sequence[Piece], reader: Reader | None = None, *, merge: bool = False
) -> dict[str, Any]:
    """Scores of a package over pieces whose targets are indices into ``card.classes``, or any change with ``merge``.

    The map that is scored is made by the predict loop, so chips are joined and quantised as in a real run. What lies
    outside a piece is no data to the model, so no other split lends its context. A model that is calibrated, and is
    not yet, is calibrated on pixels of these pieces; their labels take no part.
    """
    given, card, read = loaded, loaded.card, reader or Reader()
    if not is_calibrated(loaded):
        loaded = calibrated(loaded, sample_pixels(pieces, read))
    predictor = Predictor(loaded)
    scores, support = find_pixel_task(card.task)(len(card.classes)).scores(), Support(len(card.classes))
    for piece in pieces:
        sample, window = read(piece.scene), piece.window
        truth = np.where((sample.target > 1) & (sample.target != IGNORE), 1, sample.target) if merge else sample.target
        whole = []
        for rows in map_sample(predictor, sample, window):
            target = truth[rows.window.slices(piece.scene.window)]
            answer = predictor.output.answer(rows)
            scores.update(*answer, target)
            whole.append(answer[0])
        support.update(np.where(sample.valid, truth, IGNORE)[window.slices(piece.scene.window)])
        if isinstance(scores, ChangeScores):  # its objects may cross rows
            scores.objects(np.concatenate(whole), truth[window.slices(piece.scene.window)])
    names = [c.name for c in card.classes]
    found = {**named(scores.compute(), names, support), "scenes": len({p.scene.id for p in pieces})}
    if not is_calibrated(given):  # its score is no probability, so there is none to be off
        found |= {"ece": None, "calibration": []}
    if isinstance(scores, ChangeScores):
        for row in found["change"].get("by_size", ()):
            row |= {f"{k}_m2": None if row[k] is None else row[k] * card.gsd**2 for k in ("from", "below")}
        found["consistency"] = consistency(given, pieces, read)
    return found


def named(scores: Mapping[str, Any], names: Sequence[str], support: Support) -> dict[str, Any]:
    """Scores with a name for each class, what they stand on, and what the commonest class everywhere would score."""
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
