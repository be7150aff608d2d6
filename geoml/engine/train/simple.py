"""The best simple method for classes: from a pixel's own bands, without its neighbours and without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.data.recipe import TrainRecipe
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.engine.packages import cards
from geoml.errors import InputError, needs
from geoml.io.cards.map_card import MapCard
from geoml.nn.metrics import IGNORE, ClassScores
from geoml.recipe import Frozen

MOST = 50_000
"""Pixels that are learnt from, drawn evenly."""
TREES = 100


class _Classifier(Protocol):
    def fit(self, x: NDArray[np.float32], y: NDArray[np.int64]) -> Any: ...
    def predict(self, x: NDArray[np.float32]) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class SimpleComparison:
    """Held-out scores of a package, and by name the totals of it, of the best simple method and of doing nothing."""

    scores: dict[str, Any]
    rows: dict[str, dict[str, Any]]

    @property
    def verdict(self) -> str:
        """Whether the package was worth it, in words."""
        own, simple, _ = (r["miou"] or 0.0 for r in self.rows.values())
        if own > simple:
            return "The model is better than the best simple method on ground that it has not seen."
        return (
            "A simple method does as well on held-out ground: draw more labels in other places before you"
            " trust the map, or try geoml learn, which is for few labels."
        )


def beside(model: str | Path, recipe: Frozen) -> SimpleComparison:
    """The scores of a package beside others on the split that it was scored on. Raises InputError for a recipe of
    another task than classes."""
    if not isinstance(recipe, TrainRecipe):
        raise InputError(f"recipe: a {type(recipe).__name__}; expected one of classes")
    card = cards.read(str(model), MapCard)
    scores = card.scores
    simple = best_simple(recipe, scores["split"])
    base = scores["baseline"]
    rows = {card.name: scores, f"{simple['method']} on each pixel": simple, f"all {base['class']}": base}
    return SimpleComparison(scores, rows)


def best_simple(recipe: TrainRecipe, split: str = "test") -> dict[str, Any]:
    """``method``, ``miou`` and ``overall_accuracy`` on a split of a recipe, of the method that is best on val.

    Nearest mean, logistic regression and a random forest of the standardised bands of each pixel, learnt from train.
    """
    with needs("train", "train"):
        from sklearn.ensemble import RandomForestClassifier  # a second to import, which a map does without
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import NearestCentroid
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    splits, read = prepare(recipe), Reader()
    x, y = _drawn((_known(p, read) for p in splits["train"]), MOST, recipe.seed)
    methods: dict[str, _Classifier] = {
        "nearest mean": make_pipeline(StandardScaler(), NearestCentroid()),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "random forest": RandomForestClassifier(TREES, class_weight="balanced", random_state=recipe.seed),
    }
    for method in methods.values():
        method.fit(x, y)
    chosen = {n: c.compute() for n, c in _counted(methods, splits["val"], read, len(recipe.classes)).items()}
    name = max(methods, key=lambda n: chosen[n]["miou"] or chosen[n]["overall_accuracy"])
    scores = _counted({name: methods[name]}, splits[split], read, len(recipe.classes))[name].compute()
    return {"method": name, "miou": scores["miou"], "overall_accuracy": scores["overall_accuracy"]}


def _counted(
    methods: Mapping[str, _Classifier],
    pieces: Sequence[Piece],
    read: Callable[[LabelledScene], Sample],
    classes: int,
) -> dict[str, ClassScores]:
    """What each method says of the pixels, counted piece by piece."""
    counted = {name: ClassScores(classes, 1) for name in methods}
    for piece in pieces:
        x, truth = _known(piece, read)
        if not len(truth):
            continue
        for name, method in methods.items():
            said = np.asarray(method.predict(x), np.int64)
            counted[name].update(said, np.ones_like(said), truth)
    return counted


def _drawn(
    parts: Iterable[tuple[NDArray[np.float32], NDArray[np.int64]]], most: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All pixels, or ``most`` of them, each as likely as any other; at most these and one part are held.

    Each gets a number by chance, and those with the smallest are kept.
    """
    random = np.random.default_rng(seed)
    x, y, chance = np.zeros((0, 0), np.float32), np.zeros(0, np.int64), np.zeros(0)
    for values, truth in parts:
        x = np.concatenate([x, values]) if len(y) else values
        y = np.concatenate([y, truth])
        chance = np.concatenate([chance, random.random(len(truth))])
        if len(y) > most:
            kept = np.sort(np.argpartition(chance, most)[:most])
            x, y, chance = x[kept], y[kept], chance[kept]
    return x, y


def _known(piece: Piece, read: Callable[[LabelledScene], Sample]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(n, channel) values and (n,) index of the pixels that have both."""
    sample, part = read(piece.scene), piece.window.slices(piece.scene.window)
    target = np.asarray(sample.target)[part]
    known = sample.valid[part] & (target != IGNORE)
    return sample.image[:, *part][:, known].T.astype(np.float32), target[known].astype(np.int64)
