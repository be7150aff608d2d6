from __future__ import annotations

import json

import numpy as np
import pytest

from geoml.data.prepare import prepare
from geoml.engine.evaluate import check_fit, evaluate, named
from geoml.engine.fit import fit
from geoml.engine.package import load
from geoml.errors import InputError
from geoml.nn.losses import IGNORE


@pytest.fixture
def trained(problem, tmp_path):
    recipe = problem(epochs=4)
    fit(recipe, tmp_path / "m")
    return tmp_path / "m", recipe


def test_evaluate_repeats_the_scores_of_the_card(trained):
    folder, recipe = trained
    found = evaluate(folder, recipe)
    assert json.loads(json.dumps(found)) == found
    card = load(folder).card
    assert found["confusion"] == card.scores["confusion"]
    assert found["sha256"] == card.sha256
    assert evaluate(folder, recipe, "val")["pixels"] != 0


def test_every_known_pixel_counts_once(trained):
    folder, recipe = trained
    (piece,) = prepare(recipe)["test"]
    target = piece.scene.read().target
    found = evaluate(folder, recipe)
    assert found["pixels"] == (target != IGNORE).sum()
    assert np.array(found["confusion"]).sum(1).tolist() == [(target == k).sum() for k in range(2)]
    assert set(found["iou"]) == {"dark", "bright"}
    assert sum(b["pixels"] for b in found["calibration"]) == found["pixels"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bands": ["more", "grey"]}, "bands"),
        ({"gsd": 30}, "gsd"),
        ({"classes": [{"value": v, "name": "dark", "color": "#000000"} for v in (4, 8)]}, "classes"),
    ],
)
def test_what_does_not_fit_is_refused(trained, problem, change, says):
    folder, _ = trained
    with pytest.raises(InputError, match=says):
        check_fit(load(folder).card, problem(**change))


def test_an_empty_or_unknown_split_is_named(trained, problem):
    folder, _ = trained
    with pytest.raises(InputError, match="there is train, val"):
        evaluate(folder, problem(split={"kind": "files", "val": ["v*"]}))
    with pytest.raises(InputError, match="expected one of"):
        evaluate(folder, problem(), "tset")


def test_the_baseline_is_the_commonest_class():
    scores = {"confusion": [[60, 10], [5, 25]], "iou": [0.8, 0.6], "f1": [1, 1], "precision": [1, 1], "recall": [1, 1]}
    found = named(scores, ["a", "b"])
    assert found["baseline"] == {"class": "a", "overall_accuracy": 0.7, "miou": 0.35}
    assert found["iou"] == {"a": 0.8, "b": 0.6}
