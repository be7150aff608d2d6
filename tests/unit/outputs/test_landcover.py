"""What is stored of sets, dissimilarity and disagreement, and what the page says where something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml import testing
from geoml.engine.contract import Rows
from geoml.engine.inference.predict import stored
from geoml.errors import ModelError
from geoml.io.cards.map_card import ClassInfo
from geoml.outputs.landcover import FINE, FURTHEST, Output

NAMES = ("low", "<b>high</b>")
MADE = {"limit": 0.3, "level": 0.9, "references": True, "other": "bands, ridge"}


def output(made: dict[str, Any] = MADE, scores: dict[str, Any] | None = None) -> Output:
    classes = [ClassInfo(value=k, name=n, color=f"#10203{k}") for k, n in enumerate(NAMES)]
    about = {"task": "landcover", "made": made, "scores": scores or {}}
    return Output(testing.card("made", ["red"], (), **about).model_copy(update={"classes": tuple(classes)}))


def rows(of: Output, raw: Tensor) -> Rows:
    return stored(of, raw, np.ones(raw[:, 0].shape, np.bool_))


def raw(*pixels: tuple[float, ...]) -> Tensor:
    return torch.tensor(pixels).T[None, :, None]


def test_layers_say_what_stands_in_the_raw_output() -> None:
    """Probability of the first class, dissimilarity, logits of the other model."""
    odds = [float(np.log(p / (1 - p))) for p in (0.95, 0.71, 0.69, 0.2)]
    found = rows(output(), raw((odds[0], 0.0, 0.004, 2.0, 1.0), (odds[1], 0.0, 0.996, 1.0, 2.0),
                               (odds[2], 0.0, 1.0, 2.0, 1.0), (odds[3], 0.0, 99.0, 1.0, 2.0)))  # fmt: skip
    assert found["class"].ravel().tolist() == [0, 0, 0, 1]
    assert found["sets"][:, 0].T.tolist() == [[1, 1, 0], [1, 1, 0], [2, 1, 1], [1, 0, 1]]
    assert found["dissimilarity"].ravel().tolist() == [0, FINE, FINE, FURTHEST]
    assert found["disagreement"].ravel().tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("made", "more", "channels"),
    [
        ({"limit": None, "references": False, "other": ""}, set(), 2),
        ({}, set(), 2),
        ({"limit": 0.0, "level": 0.5}, {"sets"}, 2),
        ({"references": True}, {"dissimilarity"}, 3),
        ({"other": "bands, ridge"}, {"disagreement"}, 4),
        (MADE, {"sets", "dissimilarity", "disagreement"}, 5),
    ],
)
def test_what_a_package_does_not_know_is_no_layer(made: dict[str, Any], more: set[str], channels: int) -> None:
    found = output(made)
    assert {layer.key for layer in found.layers} == {"class", "confidence"} | more
    assert found.raw == channels
    assert set(rows(found, torch.randn(1, channels, 4, 5)).arrays) == {"class", "confidence"} | more


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_dissimilarity_that_is_not_finite_is_refused(bad: float) -> None:
    if np.isinf(bad):
        assert rows(output(), raw((0.0, 1.0, bad, 1.0, 2.0)))["dissimilarity"].item() == FURTHEST
        return
    with pytest.raises(ModelError, match="dissimilarity is not finite in 1 pixels"):
        rows(output(), raw((0.0, 1.0, bad, 1.0, 2.0)))


def learnt(**sets: Any) -> dict[str, Any]:
    cells = [{"name": "bands, ridge", "mean": 0.5, "deviation": 0.125}]
    about = {"level": 0.9, "places": 12, "least": 20, "limit": None, **sets}
    return {"learnt": {
        "chosen": "bands, ridge", "other": "", "rows": cells, "kind": "polygon", "places": 12, "folds": 3,
        "repeats": 3, "ground": 250.0, "sets": about, "said": ["2 polygons left out: without data of <b>."],
        "curve": [{"labels": 1, "draws": 10, "macro_f1": cells}],
    }}  # fmt: skip


def test_the_page_says_that_sets_are_missing_and_escapes_what_comes_from_files(tmp_path: Path) -> None:
    part = output({}, learnt()).report(tmp_path)
    said = str(part.section(None))
    assert "There are no prediction sets: 12 places cannot calibrate 90 %; expected 20 at least." in said
    assert "0.500" in said
    assert "12 labelled polygons" in said
    assert "without data of &lt;b&gt;." in said
    assert "<b>." not in said
    assert "<b>high" not in said
    assert "not the accuracy of the map" in said


def test_the_page_names_the_promise_and_what_held(tmp_path: Path) -> None:
    scores = learnt(limit=0.2, places=40, coverage=0.914, size=1.42)
    said = str(output(MADE, scores).report(tmp_path).section(None))
    assert (
        "contains the true class 90 % of the time on ground like that of the labels; it was calibrated on 40 places"
        in said
    )
    assert "contained the true class 91.4 % of the time, and had 1.42 classes on average." in said
    assert "The other model is bands, ridge." in said


def test_without_scores_there_is_what_any_map_has(tmp_path: Path) -> None:
    assert "How far it can be trusted" not in str(output().report(tmp_path).section(None))
