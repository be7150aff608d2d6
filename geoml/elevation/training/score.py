"""Held-out scores of a classifier of points, beside the most common class and the untrained filters of ground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geoml.cube.clouds.ground import FILTERS
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
    """The package and what is to be beaten, each over all clouds of a split, and the package cloud by cloud.

    Filters say what is ground and nothing of the rest, so they are beside it where there is a class of this name.
    """
    names = [c.name for c in recipe.classes]
    commonest = _commonest(clouds(recipe, "train"), len(names))
    mine, same = package.card.name, f"all {names[commonest]}"
    filters = {name: FILTERS.build(name, {}) for name in FILTERS.names()} if "ground" in names else {}
    rows = {name: PointScores(names) for name in (mine, same, *filters)}
    by_cloud = {}
    index = np.zeros(256, np.int64)
    index[[c.value for c in recipe.classes]] = np.arange(len(names))
    for cloud in clouds(recipe, split):
        own = PointScores(names)
        own.update(index[package.classify(cloud.cloud)], cloud.may)
        by_cloud[cloud.name] = own.compute()
        rows[mine].merge(own)
        rows[same].update(np.full(len(cloud), commonest), cloud.may)
        for name, found in filters.items():
            ground = found.ground(cloud.cloud.x, cloud.cloud.y, cloud.cloud.z)
            rows[name].update(np.where(ground, names.index("ground"), -1), cloud.may)
    told = {name: _told(row, name in filters) for name, row in rows.items()}
    return {**told[mine], "split": split, "methods": told, "clouds": by_cloud}


def _told(scores: PointScores, ground_only: bool) -> dict[str, Any]:
    """Scores; of a filter only those of ground, since it tells no other class."""
    found = scores.compute()
    if not ground_only:
        return found
    iou = {name: value if name == "ground" else None for name, value in found["iou"].items()}
    return {**found, "miou": None, "iou": iou, "right": None}


def _commonest(train: list[LabelledCloud], classes: int) -> int:
    """Of the points that surely are one class."""
    count = [sum(int((cloud.may == 1 << k).sum()) for cloud in train) for k in range(classes)]
    return int(np.argmax(count))
