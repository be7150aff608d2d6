"""Tables of scores: figures of every kind stand in the cell of their name."""

from __future__ import annotations

import pytest

from geoml import testing
from geoml.cli.card_page import print_card
from geoml.cli.common import print_scores


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]


def test_rows_of_retrieval(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"ground": 0, "reference": 1, "query": 0, "north_up": 0.655, "any_heading": 0.5, "chance": 0.018,
           "tiles": 78, "queries": 400}  # fmt: skip
    print_scores("retrieval", {"model": "m", "recall": [row]})
    assert cells(capsys.readouterr().out) == [["0", "1", "0", "78", "1.8 %", "65.5 %", "50.0 %"]]


def test_a_class_that_never_occurs_and_a_name_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    per_class = {k: {"[/red]": None, "b": 0.5} for k in ("iou", "f1", "precision", "recall")}
    totals = {"miou": None, "mean_f1": 0.5, "overall_accuracy": 1.0, "ece": 0.25}
    print_scores("segmentation", {"split": "test", "pixels": 4, "confusion": [[0, 0], [0, 4]], **per_class, **totals})
    said = capsys.readouterr().out
    assert cells(said) == [["[/red]", *[""] * 6], ["b", *["0.500"] * 4, "", ""]]
    assert "mean IoU none  mean F1 0.500  overall accuracy 1.000  ECE 0.250" in said


def test_scores_without_a_table_are_written_as_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"part_{k}": {"deep": {"f1": 0.5, "ndwi": 0.25}} for k in range(9)}
    scores = {"miou": 0.75, "iou_of_water": 0.5, "ece": 0.125, "kinds": {"ndwi": {"iou": 0.5}}, "many": many}
    card = testing.card("made", ("red",), ("a", "b")).model_copy(
        update={"task": "other", "scores": scores, "radius": 1}
    )
    print_card(card, "made")
    said = capsys.readouterr().out
    assert " mean IoU 0.75, IoU of water 0.5, ECE 0.125\n" in said
    assert " and 19 more numbers with --json\n" in said
    assert "1 pixel: a result depends on" in said


def test_objects_by_size_without_square_metres(capsys: pytest.CaptureFixture[str]) -> None:
    """The scores of a card count in pixels."""
    per_class = {k: {"a": 0.5} for k in ("iou", "f1", "precision", "recall")}
    sizes = [
        {"from": 0, "below": 10, "objects": 3, "found": 1, "recall": 1 / 3, "pixel_recall": 0.25},
        {"from": 10, "below": None, "objects": 0, "found": 0, "recall": None, "pixel_recall": None},
    ]
    scores = {"split": "val", "pixels": 9, "confusion": [[9]], "miou": 0.5, "mean_f1": 0.5, "overall_accuracy": 0.5}
    print_scores("change", {**scores, **per_class, "ece": None, "change": {"f1": 0.5, "by_size": sizes}})
    said = capsys.readouterr().out
    assert cells(said)[1:] == [["0 to 10 pixels", "3", "0.333", "0.250"], ["from 10 pixels", "0", "", ""]]
    assert "any change against none: F1 0.500" in said
