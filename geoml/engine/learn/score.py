"""Scores of a package from few labels: on the labels that taught it, held out in turn, or on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoml.engine.learn.choose import STEPS
from geoml.engine.learn.fit import prepare, read_features
from geoml.engine.learn.recipe import LearnRecipe
from geoml.engine.packages import package
from geoml.errors import InputError
from geoml.nn.metrics import MacroScores

SPLITS = ("test", "all")


def score(model: str | Path, recipe: LearnRecipe, split: str = "test") -> dict[str, Any]:
    """Plain JSON values. Of the recipe that the package was learnt by they are those of its card.

    Raises InputError for another split than ``test`` or ``all`` and for classes that the package does not know, and
    what `geoml.engine.learn.fit.fit` raises for labels and images.
    """
    if split not in SPLITS:
        raise InputError(f"split: {split!r}; expected {' or '.join(SPLITS)}: labels are held out in turn")
    loaded = package.load(model)
    card = loaded.card
    about = {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash}
    if card.training.get("recipe_hash") == recipe.hash:
        return {**card.scores, **about}
    names = [c.name for c in card.classes]
    ready = prepare(recipe)
    taught, given = card.training.get("encoder", {}), ready.encoder.card if ready.encoder else None
    if taught.get("sha256") != (given.sha256 if given else None):
        raise InputError(f"model: {recipe.model}; {card.name} is on {taught.get('name', 'bands alone')}")
    if strange := sorted(set(ready.labels.classes) - set(names)):
        raise InputError(f"field: {len(strange)} classes that {card.name} does not know: {', '.join(strange)}")
    answers, pixels = read_features(ready, loaded)
    index = np.array([names.index(c) for c in ready.labels.classes])
    truth = index[ready.labels.frame["label"].to_numpy()[pixels.place]]
    counted = MacroScores(len(names), STEPS)
    counted.update(answers.argmax(1), np.round(answers.max(1) * STEPS).astype(np.int64), truth)
    scores = counted.compute()
    for name in ("iou", "f1", "precision", "recall"):
        scores[name] = dict(zip(names, scores[name], strict=True))
    scores["absent"] = [names[k] for k in scores["absent"]]
    common = int(np.bincount(truth).argmax())
    share = float((truth == common).mean())
    base = {"class": names[common], "overall_accuracy": share, "miou": share / len(names)}
    return {**scores, **about, "split": "other labels", "baseline": base}
