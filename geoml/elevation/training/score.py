"""Held-out scores of a classifier of points, beside the commonest class of the training clouds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoml.elevation.accuracy.point_scores import PointScores
from geoml.elevation.training.clouds import LabelledCloud, clouds
from geoml.elevation.training.recipe import PointRecipe
from geoml.engine.packages import points
from geoml.engine.packages.points import PointPackage
from geoml.errors import InputError


def score(model: str | Path, recipe: PointRecipe, split: str) -> dict[str, Any]:
    """Scores of a package on the clouds of a split of a recipe.

    Raises InputError for another split than ``test`` or ``val`` and a package of other classes, and as reading does.
    """
    if split not in ("test", "val"):
        raise InputError(f"split: {split!r}; expected test or val")
    package = points.load(model)
    if package.card.classes != recipe.classes:
        names = [", ".join(c.name for c in of.classes) for of in (package.card, recipe)]
        raise InputError(f"model: {package.card.name} tells {names[0]} apart, the recipe {recipe.name} {names[1]}")
    about = {"model": package.card.name, "sha256": package.card.sha256, "recipe": recipe.hash}
    return {**scores_of(package, recipe, split), **about}


def scores_of(package: PointPackage, recipe: PointRecipe, split: str) -> dict[str, Any]:
    """The package and what is to be beaten, each over all clouds of a split, and the package cloud by cloud."""
    names = [c.name for c in recipe.classes]
    commonest = _commonest(clouds(recipe, "train"), len(names))
    rows = {name: PointScores(names) for name in (package.card.name, f"all {names[commonest]}")}
    by_cloud = {}
    for cloud in clouds(recipe, split):
        own = PointScores(names)
        own.update(points.answer(package.module, package.card, cloud.columns), cloud.may)
        by_cloud[cloud.name] = own.compute()
        rows[package.card.name].merge(own)
        rows[f"all {names[commonest]}"].update(np.full(len(cloud), commonest), cloud.may)
    found = rows[package.card.name].compute()
    return {**found, "split": split, "methods": {k: v.compute() for k, v in rows.items()}, "clouds": by_cloud}


def _commonest(train: list[LabelledCloud], classes: int) -> int:
    """Of the points that surely are one class."""
    count = [sum(int((cloud.may == 1 << k).sum()) for cloud in train) for k in range(classes)]
    return int(np.argmax(count))
