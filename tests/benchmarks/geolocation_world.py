"""The table of docs/geolocation.md: every head on the world overhead set, from one recipe, as JSON.

    python tests/benchmarks/geolocation_world.py catalogs/recipes/world-overhead.yaml --cache DIR --out rows.json

Features are computed once and kept in the cache; a row that is in the file already is not measured again. The rows of
a trained AlexNet take its training from catalogs/recipes/world-alexnet.yaml.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from geoml import pipeline
from geoml.backends.torch import choose
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.locator import build_backbone
from geoml.geolocation.nn import geoscores
from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training import world_sets
from geoml.geolocation.training.recipe import GeoRecipe, Head
from geoml.geolocation.training.world_sets import FeatureSets
from geoml.grid import sphere

TRAINED = "world-alexnet"
"""The recipe of what learns end to end, in place of a backbone."""
SMALL: dict[str, Any] = {"hidden": 512, "dropout": 0.3}
CELLS: dict[str, Any] = {**SMALL, "most": 120, "least": 9}
ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "AlexNet (random), latlon, haversine": ("alexnet", "latlon", SMALL),
    "AlexNet (random), latlon, MSE": ("alexnet", "latlon", {**SMALL, "loss": "mse"}),
    "AlexNet (trained), latlon, haversine": (TRAINED, "latlon", {"hidden": 0}),
    "AlexNet (trained), latlon, MSE": (TRAINED, "latlon", {"hidden": 0, "loss": "mse"}),
    "Lite0, latlon, haversine": ("", "latlon", SMALL),
    "Lite0, latlon, MSE": ("", "latlon", {**SMALL, "loss": "mse"}),
    "Lite0, unit vector": ("", "unit_vector", SMALL),
    "Lite0, cells": ("", "cells", {**CELLS, "tau_km": 0.0}),
    "Lite0, cells + smoothing": ("", "cells", {**CELLS, "tau_km": 150.0}),
    "Lite0, vMF mixture": ("", "vmf_mixture", CELLS),
    "Lite0, retrieval": ("", "retrieval", {}),
    "Lite0, cells then retrieval": ("", "cells_retrieval", {**CELLS, "tau_km": 150.0}),
}


class Histogram(torch.nn.Module):
    """(B, 3, H, W) to (B, 64): shares of 4 x 4 x 4 colours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        level = (
            (x * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]) * 3.999
        ).int()
        code = (level[:, 0] * 16 + level[:, 1] * 4 + level[:, 2]).flatten(1).clamp(0, 63)
        return torch.nn.functional.one_hot(code.long(), 64).float().mean(1)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("recipe")
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("--out", required=True, type=Path)
    given = arguments.parse_args()
    recipe = pipeline.training(given.recipe)[1]
    rows: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}

    def keep(name: str, scores: dict[str, Any]) -> None:
        rows[name] = scores
        order = [n for n in ROWS if n in rows]
        given.out.write_text(json.dumps({n: rows[n] for n in [*(n for n in rows if n not in ROWS), *order]}, indent=1))
        short = {k: (round(v["median_km"]), round(100 * v["within_750"], 1)) for k, v in scores.items()}
        print(name, short, flush=True)

    sets: dict[str, FeatureSets] = {}
    if "constant mean" not in rows:
        keep("constant mean", constant(recipe))
    if "colour histogram neighbours" not in rows:
        backbone = Backbone("histogram", Histogram(), 64, 160, IMAGENET_MEAN, IMAGENET_STD)
        extractor = Extractor(backbone, recipe.size or 160, choose("cpu", "fp32"))
        of = world_sets.prepare(recipe, extractor, given.cache)
        keep("colour histogram neighbours", measured(recipe, of, "retrieval", {}))
    for name, (network, head, config) in ROWS.items():
        if name in rows:
            continue
        if network == TRAINED:
            keep(name, trained(recipe, head, config, given.cache))
            continue
        if network not in sets:
            torch.manual_seed(0)
            built = build_backbone(network or recipe.backbone, None if network else recipe.weights)
            sets[network] = world_sets.prepare(recipe, Extractor(built, recipe.size), given.cache)
        keep(name, measured(recipe, sets[network], head, config))


def measured(recipe: GeoRecipe, sets: FeatureSets, head: str, config: dict[str, Any]) -> dict[str, Any]:
    """Scores by test set of a head that the recipe's training makes."""
    asked = recipe.model_copy(update={"head": Head(name=head, config=config)})
    return fit_locator.fit_features(asked, sets).scores


def trained(recipe: GeoRecipe, head: str, config: dict[str, Any], cache: str) -> dict[str, Any]:
    """Scores by test set of backbone and head that learn together, on the places of the recipe."""
    same = {k: getattr(recipe, k) for k in ("source", "split", "views", "calibration", "seed")}
    asked = pipeline.training(TRAINED)[1].model_copy(update={**same, "head": Head(name=head, config=config)})
    with TemporaryDirectory() as folder:
        return fit_locator.fit(asked, folder, cache).card.scores


def constant(recipe: GeoRecipe) -> dict[str, Any]:
    """Scores of the spherical mean of the training places as the answer to everything."""
    places = world_sets.choose(recipe)
    at = sphere.mean(places.train[:, 0], places.train[:, 1])
    asked = {"in-region": places.in_region, "held-out": places.held_out, "other-month": places.in_region}
    return {
        name: dict(geoscores.table_row(np.asarray(sphere.distance(*at, where[:, 0], where[:, 1]))))
        for name, where in asked.items()
    }


if __name__ == "__main__":
    main()
