"""Scores of a package from few labels: on the labels that taught it, held out in turn, or on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoml import texts
from geoml.engine.learn.choose import STEPS
from geoml.engine.learn.fit import prepare, read_features
from geoml.engine.learn.recipe import LearnRecipe
from geoml.engine.packages import package
from geoml.errors import InputError
from geoml.nn.metrics import MacroScores

SPLITS = ("test", "all")
OTHERS = "other labels"
"""The split of labels that a package was not learnt by."""


def score(model: str | Path, recipe: LearnRecipe, split: str = "test") -> dict[str, Any]:
    """Plain JSON values. Of the recipe and labels that the package was learnt by they are those of its card; of others,
    labels at places that taught it are left out.

    Raises InputError for another split than ``test`` or ``all``, for classes that the package does not know and where
    no other labels are left, and what `geoml.engine.learn.fit.fit` raises for labels and images.
    """
    if split not in SPLITS:
        raise InputError(f"split: {split!r}; expected {' or '.join(SPLITS)}: labels are held out in turn")
    loaded = package.load(model)
    card = loaded.card
    about = {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash}
    ready = prepare(recipe, judge=True)
    if card.training.get("hash") == ready.hash:
        return {**card.scores, **about}
    names = [c.name for c in card.classes]
    taught, given = card.training.get("encoder", {}), ready.encoder.card if ready.encoder else None
    if taught.get("sha256") != (given.sha256 if given else None):
        raise InputError(f"model: {recipe.model}; {card.name} is on {taught.get('name', 'bands alone')}")
    if strange := sorted(set(ready.labels.classes) - set(names)):
        raise InputError(f"field: {len(strange)} classes that {card.name} does not know: {', '.join(strange)}")
    others = ~np.isin(ready.hashes, card.training.get("label_hashes", []))
    if not others.any():
        raise InputError(
            f"labels: {recipe.labels} has only the {texts.counted(len(others), ready.labels.kind)} that taught"
            f" {card.name}; expected others, or the recipe that it was learnt by"
        )
    answers, pixels = read_features(ready, loaded)
    mine = np.flatnonzero(others[pixels.place])
    answers, pixels = answers[mine], pixels.take(mine)
    index = np.array([names.index(c) for c in ready.labels.classes])
    label = index[ready.labels.frame["label"].to_numpy()]
    truth = label[pixels.place]
    counted = MacroScores(len(names), STEPS)
    counted.update(answers.argmax(1), np.round(answers.max(1) * STEPS).astype(np.int64), truth)
    scores = counted.compute()
    for name in ("iou", "f1", "precision", "recall"):
        scores[name] = dict(zip(names, scores[name], strict=True))
    scores["absent"] = [names[k] for k in scores["absent"]]
    common = int(np.bincount(truth).argmax())
    share = float((truth == common).mean())
    base = {"class": names[common], "overall_accuracy": share, "miou": share / len(names)}
    counts = (np.bincount(k, minlength=len(names)) for k in (truth, label[np.unique(pixels.place)]))
    support = {n: {"pixels": int(a), "places": int(b)} for n, a, b in zip(names, *counts, strict=True)}
    taught_with = int((~others).sum())
    return {
        **scores, **about, "split": OTHERS, "baseline": base, "support": support, "taught_with": taught_with,
    }  # fmt: skip
