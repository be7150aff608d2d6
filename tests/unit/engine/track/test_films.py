"""What a model finds in a frame: its card says what is sure, and what a score is worth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml import testing
from geoml.engine.contract import Rows
from geoml.engine.track.films import objects
from geoml.grid.plane import Window
from geoml.io.cards.detection import Detection, FoundClass, Sizes
from geoml.io.cards.map_card import MapCard

NAMES = ("car", "truck")


def card(*thresholds: float) -> MapCard:
    """Of a detector; with thresholds of its two classes the chance of a car is half its score, that of a truck all."""
    made = testing.card("made", ("red",), NAMES, task="detection")
    if not thresholds:
        return made
    knots = {"car": ((0.0, 0.0), (1.0, 0.5)), "truck": ((0.0, 0.0), (1.0, 1.0))}
    classes = {
        name: FoundClass(
            threshold=t, chosen="f1", calibration="isotonic", knots=knots[name],
            candidates=300, matched=100, truth=125, found=160, hits=90,
        )
        for name, t in zip(NAMES, thresholds, strict=True)
    }  # fmt: skip
    record = Detection(least=0.05, square=960, sizes=Sizes(least=20, most=300, seen=960), classes=classes)
    return made.model_copy(update={"detection": record})


def rows(made: MapCard, score: list[float], kinds: list[int]) -> Rows:
    """Candidates of 8 x 4 pixels, 20 pixels apart."""
    n = len(score)
    sides: dict[str, NDArray[np.number]] = {
        side: np.full(n, reach) for side, reach in (("north", 2.0), ("south", 2.0), ("west", 4.0), ("east", 4.0))
    }
    values = np.array([c.value for c in made.classes], np.uint8)
    places = {"y": np.full(n, 30), "x": np.arange(n) * 20 + 10}
    return Rows(Window(0, 0, 64, 256), {**places, **sides, "score": np.array(score), "class": values[kinds]})


def test_thresholds_of_the_classes_say_what_is_sure() -> None:
    made = card(0.7, 0.2)
    found = objects(rows(made, [0.8, 0.6, 0.25, 0.1], [0, 0, 1, 1]), made)
    assert found.kind.tolist() == ["car", "car", "truck", "truck"]
    assert found.sure(None).tolist() == [True, False, True, False]
    assert found.confidence.tolist() == pytest.approx([0.4, 0.3, 0.25, 0.1])
    assert found.sure(0.28).tolist() == [True, True, False, False], "who says a confidence has that"
    np.testing.assert_allclose(found.boxes[0], [6.5, 28.5, 8, 4])
    assert found.take(found.confidence < 0.28).sure(None).tolist() == [True, False]


def test_a_card_that_knows_nothing_is_sure_from_a_half_on() -> None:
    made = card()
    found = objects(rows(made, [0.6, 0.4], [0, 1]), made)
    assert found.sure(None).tolist() == [True, False]
    assert found.confidence.tolist() == pytest.approx([0.6, 0.4])
    assert len(objects(rows(made, [], []), made).sure(None)) == 0
