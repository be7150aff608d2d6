"""The shipped recipes on the real data: splits without leaks, labels that make sense, and what a threshold scores.

The thresholds are the baselines of docs/scores.md: chosen on train, scored on the held-out split.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from geoml.data.chips import Reader, measure
from geoml.data.prepare import prepare
from geoml.data.recipe import Folds, Lists
from geoml.errors import InputError
from geoml.nn.metrics import IGNORE
from geoml.pipeline import training
from tests.benchmarks.defaults import INDEX, threshold

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]


def shipped(name: str) -> Any:
    return training(name)[1]


def held(recipe: Any, fold: str) -> Any:
    return recipe.model_copy(update={"split": recipe.split.model_copy(update={"hold": fold})})


@pytest.mark.parametrize("name", sorted(INDEX))
def test_splits_hold_labels_of_every_class_and_share_no_ground(name):
    recipe, read = shipped(name), Reader()
    asked = [held(recipe, fold) for fold in recipe.split.of] if isinstance(recipe.split, Folds) else [recipe]
    for one in asked:
        splits = prepare(one)  # raises when ground is shared
        for part in ("train", "val", "test"):
            found = measure(splits[part], recipe.target, read)
            assert (found.counted > 1000).all(), part


def test_train_and_val_lists_of_urban_trees_leak_across_years():
    recipe = shipped("urban-trees")
    leaky = Lists(kind="lists", train="train.txt", val="val.txt")
    with pytest.raises(InputError, match="leak"):
        prepare(recipe.model_copy(update={"split": leaky}))


def test_years_of_a_footprint_stay_together():
    splits = prepare(shipped("urban-trees"))
    ground = {
        part: {"_".join(p.scene.id.split("_")[:-2] + p.scene.id.split("_")[-1:]) for p in splits[part]}
        for part in ("train", "val", "test")
    }
    assert not ground["train"] & ground["test"]
    assert not ground["train"] & ground["val"]
    assert {p.scene.id.split("_")[-2] for p in splits["train"]} == {"2016", "2018", "2020"}


def test_a_scene_of_nothing_but_nan_teaches_nothing():
    splits = prepare(shipped("sen1floods11-water"))
    (scene,) = {p.scene for part in splits.values() for p in part if p.scene.id == "Paraguay_34417"}
    sample = scene.read()
    assert not sample.valid.any()
    assert (sample.target == IGNORE).all()


def test_buildings_are_bright_in_red_against_plants():
    """Labels and tiles lie on each other: shifting the labels by 30 pixels makes roofs and labels agree less."""
    splits = prepare(shipped("osm-buildings"))
    whole = {p.scene.id: sample for p in splits["train"] if (sample := p.scene.read()).valid.all()}
    towns = {name: [s for id_, s in whole.items() if id_.startswith(name)] for name in ("zanzibar", "nairobi")}
    for name, samples in towns.items():
        texture = [np.abs(np.gradient(s.image.astype(float).mean(0))).sum(0) for s in samples]
        edges = [np.abs(np.gradient((s.target == 1).astype(float))).sum(0) > 0 for s in samples]
        here = np.mean([t[e].mean() for t, e in zip(texture, edges, strict=True) if e.any()])
        away = np.mean([t[np.roll(e, 30, (0, 1))].mean() for t, e in zip(texture, edges, strict=True) if e.any()])
        assert here > 1.1 * away, name


@pytest.mark.parametrize(
    ("name", "fold", "expected"),
    [
        ("sen1floods11-water", None, 0.473),
        ("urban-trees", None, 0.170),
        ("osm-buildings", "kampala", 0.308),
        ("osm-buildings", "zanzibar", 0.094),
        ("osm-buildings", "nairobi", 0.190),
    ],
)
def test_baseline(name, fold, expected):
    recipe = shipped(name)
    found = threshold(recipe) if fold is None else threshold(held(recipe, fold), ("train", "val"))
    assert found["iou"] == pytest.approx(expected, abs=0.005), found
