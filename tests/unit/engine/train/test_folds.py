"""Groups of scenes that are held out in turn: who learns from whom, what is said of all, and how sure it may be."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.engine.packages import package
from geoml.engine.train.evaluate import score
from geoml.engine.train.fit import fit
from geoml.engine.train.folds import train_folds
from geoml.errors import InputError
from geoml.io.cards.map_card import TEMPERATURE

FOLDS = {"kind": "folds", "of": {"one": ["a0", "a1"], "two": ["a2", "a3"]}, "carve": {"size": 160, "share": 0.3}}


class Killed(BaseException):
    pass


def test_every_group_is_scored_by_a_network_that_has_not_seen_it(problem, tmp_path):
    recipe = problem(split=FOLDS, epochs=5, sampling={"samples": 30})
    told = []

    def killing(row):
        told.append(row)
        if len(told) == 7:
            raise Killed

    with pytest.raises(Killed):
        fit(recipe, tmp_path / "m", on_epoch=killing)
    card = fit(recipe, tmp_path / "m", on_epoch=told.append)
    assert len(told) == 15, "the first fold is not trained again, the second goes on in its third epoch"
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.json", "model.safetensors"}
    scores = card.scores
    assert scores["split"] == "folds"
    assert set(scores["folds"]) == {"one", "two"}
    assert scores["pixels"] == sum(f["pixels"] for f in scores["folds"].values())
    total = np.sum([f["confusion"] for f in scores["folds"].values()], axis=0)
    assert scores["confusion"] == total.tolist()
    assert scores["scenes"] == 4
    assert scores["miou"] > 0.8

    parts = train_folds(recipe, tmp_path / "again", fit)
    assert [f.name for f in parts] == ["one", "two"]
    for fold in parts:
        split = fold.package.card.training["split"]
        assert split["test"]["scenes"] == sorted({p.scene.id for p in fold.pieces})
        assert not set(split["test"]["scenes"]) & {s.partition("[")[0] for s in split["train"]["scenes"]}
        alone = score(fold.package, fold.pieces, recipe, Reader())
        assert alone["confusion"] == scores["folds"][fold.name]["confusion"], "a temperature changes no class"
    assert card.made[TEMPERATURE] > 0
    assert package.load(tmp_path / "m").card == card


def test_scenes_of_no_group_always_train(problem):
    recipe = problem(split={**FOLDS, "hold": "two"})
    splits = prepare(recipe)
    assert {p.scene.id for p in splits["test"]} == {"a2", "a3"}
    assert {"v0", "t0"} <= {p.scene.id for p in (*splits["train"], *splits["val"])}


def test_scenes_that_are_kept_for_later_are_not_used(problem):
    splits = prepare(problem(split={**FOLDS, "never": ["t*"]}))
    assert {p.scene.id for p in splits["unused"]} == {"t0"}


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ({"one": ["a*"], "two": ["a1"]}, "a1 is in the folds one and two"),
        ({"one": ["a*"], "two": ["b*"]}, "no scene of 6 is in the fold two"),
    ],
)
def test_groups_are_disjoint_and_not_empty(problem, of, says):
    with pytest.raises(InputError, match=says):
        prepare(problem(split={**FOLDS, "of": of}))


def test_a_group_that_is_not_there_cannot_be_held_out(problem):
    with pytest.raises(ValueError, match="expected one of one, two"):
        problem(split={**FOLDS, "hold": "three"})
