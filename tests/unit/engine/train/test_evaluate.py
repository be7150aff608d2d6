from __future__ import annotations

import json

import numpy as np
import pytest

from geoml.data.prepare import prepare
from geoml.engine.packages.package import load
from geoml.engine.train.evaluate import check_fit, evaluate
from geoml.engine.train.fit import fit
from geoml.errors import InputError
from geoml.io.report.score_notes import FEW_PIXELS, FEW_PLACES, few, score_notes
from geoml.nn.losses import IGNORE
from geoml.nn.support import Support
from geoml.tasks._classes import named


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


SCORES = {"iou": [0.8, 0.6], "f1": [1, 1], "precision": [1, 1], "recall": [1, 1]}


def test_the_baseline_is_the_commonest_class():
    found = named({**SCORES, "confusion": [[60, 10], [5, 25]], "absent": []}, ["a", "b"], Support(2))
    assert found["baseline"] == {"class": "a", "overall_accuracy": 0.7, "miou": 0.35}
    assert found["iou"] == {"a": 0.8, "b": 0.6}


def test_where_a_class_is_not_tested_the_baseline_has_no_mean_either():
    found = named({**SCORES, "confusion": [[60, 10], [0, 0]], "absent": [1]}, ["a", "b"], Support(2))
    assert found["absent"] == ["b"]
    assert found["baseline"] == {"class": "a", "overall_accuracy": 1.0, "miou": None}


def test_a_class_of_the_card_without_a_test_pixel_is_named_and_leaves_no_mean(problem, tmp_path):
    """The held-out scene is all dark; a map that is right there says nothing of bright."""
    recipe = problem(epochs=2)
    problem.write(tmp_path / "data" / "lab" / "t0.tif", np.full((1, 48, 48), 4, np.int16), 4)
    scores = fit(recipe, tmp_path / "m").scores
    assert scores["absent"] == ["bright"]
    assert scores["miou"] is scores["mean_f1"] is scores["iou"]["bright"] is None
    assert scores["support"]["bright"] == {"pixels": 0, "places": 0}
    assert scores["support"]["dark"]["pixels"] == scores["pixels"] > 0
    assert scores["few"] == ["dark"], "one place"
    assert "bright" in score_notes(scores)[0]


def test_support_counts_pixels_and_connected_regions_of_one_class():
    target = np.full((6, 6), IGNORE, np.uint8)
    target[0, 0] = target[1, 1] = 1  # touch at a corner
    target[4:, 4:] = 1
    target[0, 3:] = 0
    support = Support(3)
    support.update(target)
    support.update(target[:1])
    assert support.compute() == [
        {"pixels": 6, "places": 2}, {"pixels": 7, "places": 3}, {"pixels": 0, "places": 0},
    ]  # fmt: skip


def test_few_pixels_and_few_places_are_said_and_many_are_not():
    support = {
        "plenty": {"pixels": FEW_PIXELS, "places": FEW_PLACES},
        "one field": {"pixels": 90_000, "places": 1},
        "dots": {"pixels": FEW_PIXELS - 1, "places": 300},
        "none": {"pixels": 0, "places": 0},
    }
    assert few(support) == ["one field", "dots"]
    (note,) = score_notes({"support": support})
    assert "one field (90,000 pixels in 1 place)" in note
    assert "plenty" not in note
