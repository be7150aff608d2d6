"""The record of a detector in a card: there and back, and what is no record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from geoml import testing
from geoml.io.cards.detection import MOST, Detection, FoundClass
from geoml.io.cards.map_card import MapCard


def one(**changes: Any) -> dict[str, Any]:
    return {
        "threshold": 0.4, "chosen": "f1", "calibration": "isotonic", "knots": [[0.05, 0.01], [0.4, 0.6], [0.9, 0.6]],
        "candidates": 90, "matched": 50, "truth": 60, "found": 48, "hits": 40, "curve": [[0.9, 1.0, 0.1]],
        "reliability": [[0.6, 0.5, 30]], "d_ece": 0.1, "squares": [[4.5, 5]], **changes,
    }  # fmt: skip


def card(**classes: Any) -> dict[str, Any]:
    made = testing.card("made", ["red"], ["car"], task="detection")
    return {**made.model_dump(), "detection": {"least": 0.05, "square": 32.0, "classes": classes or {"car": one()}}}


def test_it_stands_in_the_item_and_comes_back() -> None:
    made = MapCard.model_validate(card())
    properties = json.loads(json.dumps(made.to_mlm()))
    assert properties["geoml:detection"]["classes"]["car"]["knots"][1] == [0.4, 0.6]
    fields = MapCard.from_mlm(properties, {})
    assert Detection.model_validate(fields["detection"]) == made.detection
    assert made.detection is not None
    assert made.detection.classes["car"].precision == 40 / 48
    assert made.detection.classes["car"].recall == 40 / 60


def test_a_card_without_one_is_written_as_before() -> None:
    made = testing.card("made", ["red"], ["car"], task="detection")
    assert made.detection is None
    assert "geoml:detection" not in made.to_mlm()
    assert "detection" not in made.model_dump()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"knots": [[0.1, 0.5], [0.4, 0.3]]}, "expected scores that rise, and no fall"),
        ({"knots": [[0.4, 0.3], [0.4, 0.5]]}, "expected scores that rise"),
        ({"knots": [[0.1, 1.5]]}, "less than or equal to 1"),
        ({"knots": [[k / 1000, 0.5] for k in range(MOST + 1)]}, "at most 256"),
        ({"squares": [[1.0, 1]] * (MOST + 1)}, "at most 256"),
        ({"squares": [[-1.0, 1]]}, "greater than or equal to 0"),
        ({"squares": [[1.0, -1]]}, "greater than or equal to 0"),
        ({"threshold": float("nan")}, "finite"),
        ({"hits": -1}, "greater than or equal to 0"),
        ({"hits": 49}, "hits: 49 of 48 found and 60 true"),
    ],
)
def test_what_is_no_record_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FoundClass.model_validate(one(**wrong))


def test_it_is_of_the_classes_of_the_card() -> None:
    with pytest.raises(ValidationError, match=r"a record of \['boat'\]; the card has \['car'\]"):
        MapCard.model_validate(card(boat=one()))
