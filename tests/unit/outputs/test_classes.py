"""Classes and changes: what is stored of logits, its extremes, what the page and the features make of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import geoml
from geoml import testing
from geoml.engine.contract import Rows
from geoml.engine.inference.predict import stored
from geoml.errors import InputError, ModelError
from geoml.outputs import changes, classes
from geoml.recipe import PredictRecipe, parse

NAMES = ("low", "middle", "high")


def output(
    kind: type[classes.Output] = classes.Output, names: tuple[str, ...] = NAMES, **recipe: bool
) -> classes.Output:
    asked = parse(
        PredictRecipe,
        {"model": "m", "query": {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": "2024"}, **recipe},
        "made",
    )
    return kind(testing.card("made", ["red"], names), asked)


def rows(of: classes.Output, raw: Tensor) -> Rows:
    return stored(of, raw, np.ones(raw[:, 0].shape, bool))


def test_a_tie_goes_to_the_first_class_with_half_the_confidence() -> None:
    found = rows(output(names=NAMES[:2]), torch.zeros(1, 2, 1, 1))
    assert (found["class"].item(), found["confidence"].item()) == (0, 125)


def test_one_class_is_certain() -> None:
    found = rows(output(names=NAMES[:1]), torch.randn(1, 1, 2, 2))
    assert not found["class"].any()
    assert (found["confidence"] * classes.SCALE == 1.0).all()


def test_logits_of_any_size_neither_overflow_nor_leave_the_steps() -> None:
    raw = torch.tensor([[1e30, -1e30, 0.0], [3e38, 1.0, 2.0]]).view(2, 3, 1, 1)
    found = rows(output(), raw)
    assert found["class"].flatten().tolist() == [0, 0]
    assert found["confidence"].flatten().tolist() == [250, 250]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [classes.Output, changes.Output])
@pytest.mark.parametrize("probabilities", [False, True])
def test_an_output_that_is_not_finite_is_refused(bad: float, kind: type[classes.Output], probabilities: bool) -> None:
    raw = torch.zeros(1, 3, 2, 2)
    raw[0, 1, 0, 0] = bad
    made, known = output(kind, probabilities=probabilities), np.ones((1, 2, 2), bool)
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        stored(made, raw, known)
    known[0, 0, 0] = False
    assert stored(made, raw, known)["class"][0, 0, 0] == 255  # nobody looks where nothing is known


def test_confidence_is_the_probability_of_the_class_and_of_a_change_that_of_any() -> None:
    raw = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.softmax(raw, 1).movedim(1, 0).reshape(3, 16, 8).numpy()
    for made, expected in ((output(), truth.max(0)), (output(changes.Output), 1 - truth[0])):
        found = rows(made, raw)
        assert (found["class"][0] == truth.argmax(0)).all()
        np.testing.assert_allclose(found[made.layers[1].key][0] * classes.SCALE, expected, atol=0.5001 * classes.SCALE)
    every = rows(output(probabilities=True), raw)["probabilities"]
    np.testing.assert_allclose(every * classes.SCALE, truth, atol=0.5001 * classes.SCALE)


def test_without_the_probabilities_the_same_is_stored() -> None:
    raw = 3 * torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    quick, whole = rows(output(), raw), rows(output(probabilities=True), raw)
    assert (quick["class"] == whole["class"]).all()
    assert np.abs(quick["confidence"].astype(int) - whole["confidence"]).max() <= 1  # another order of sums


@pytest.mark.parametrize("kind", [classes.Output, changes.Output])
def test_a_temperature_changes_the_confidence_and_no_class(kind: type[classes.Output]) -> None:
    raw = 3 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = output(kind)
    made = replace(plain, card=plain.card.model_copy(update={"made": {"temperature": 2.5}}))
    found, expected = rows(made, raw), rows(plain, raw / 2.5)
    assert (found["class"] == rows(plain, raw)["class"]).all()
    key = made.layers[1].key
    assert np.abs(found[key].astype(int) - expected[key]).max() <= 1
    for wrong in (0, -1.0, "warm", float("inf")):
        bad = replace(plain, card=plain.card.model_copy(update={"made": {"temperature": wrong}}))
        with pytest.raises(InputError, match="expected a number above zero"):
            rows(bad, raw)


def test_values_of_the_card_come_back_as_indices() -> None:
    card = testing.card("made", ["red"], NAMES)
    values = zip(card.classes, (7, 0, 200), strict=True)
    moved = card.model_copy(update={"classes": tuple(c.model_copy(update={"value": v}) for c, v in values)})
    made = classes.Output(moved)
    raw = torch.eye(3).view(1, 3, 1, 3) * 9
    found = stored(made, raw, np.array([[[True, True, True]]]))
    assert found["class"].tolist() == [[[7, 0, 200]]]
    assert made.answer(found)[0].tolist() == [[0, 1, 2]]
    nothing = stored(made, raw, np.zeros((1, 1, 3), bool))
    assert made.answer(nothing)[0].tolist() == [[255, 255, 255]]
    dates = changes.Output(moved.model_copy(update={"task": "change", "dates": 2}))
    assert dates.called(found).tolist() == [[False, True, True]]
    assert not dates.called(nothing).any()


def test_a_model_without_training_gives_a_score_and_no_probabilities() -> None:
    card = testing.card("made", ["red"], NAMES, architecture="cva", dates=2, task="change")
    layer = changes.Output(card).layers[1]
    assert (layer.key, layer.description) == ("score", "score of change, 0.5 at the threshold; no probability")
    recipe = output(probabilities=True).recipe
    with pytest.raises(InputError, match="probabilities: made needs no training"):
        changes.Output(card, recipe)


def test_no_other_file_knows_how_confidence_is_stored() -> None:
    """Readers take scale and nodata from the COG or ask the output; `domain.tif` has an encoding of its own."""
    root = Path(geoml.__file__).parent
    told = re.compile(r"[=*/] ?250\b|CONFIDENCE_(STEPS|SCALE|NODATA|BROKEN)")
    files = {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in root.rglob("*.py")}
    assert {name for name, text in files.items() if told.search(text)} == {"outputs/classes.py", "io/cards/domain.py"}
