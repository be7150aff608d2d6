"""What cards say by class follows the classes, although JSON has it by the alphabet; leads follow their length."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from geoml.engine.packages import cards
from geoml.io.cards import mlm
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.cards.order import in_order
from geoml.io.report.page import evaluation_report
from geoml.io.stores.store import write_json
from geoml.nn.metrics import ClassScores
from geoml.nn.support import Support
from geoml.tasks._classes import named
from geoml.tasks.segmentation import Task

NAMES = ("water", "tree", "crop", "built")
COLUMNS = ("built", "crop", "tree", "water")


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ({"a": 1, "b": 2, "c": 3}, ["c", "a", "b"]),
        ({"a": 1, "c": 3}, ["c", "a"]),
        ({"b": 2, "a": 1, "miou": 0}, ["b", "a", "miou"]),
        ({"PT15M": 1, "PT1H": 2, "PT30M": 3, "P1D": 4}, ["PT15M", "PT30M", "PT1H", "P1D"]),
        ({"PT15M": 1, "P": 2}, ["PT15M", "P"]),
        ({}, []),
    ],
)
def test_order(value: dict[str, int], keys: list[str]) -> None:
    for found in (in_order(value, "cab"), in_order({"iou": [value]}, "cab")["iou"][0]):
        assert list(found) == keys
        assert found == value


def stored(tmp_path: Path) -> tuple[MapCard, np.ndarray]:
    """A card with scores as it is read from its file, and the confusion counted pixel by pixel."""
    rng = np.random.default_rng(3)
    truth = rng.choice(4, (40, 50), p=[0.5, 0.25, 0.2, 0.05])
    guess = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, 4, truth.shape))
    scores, support = ClassScores(4, 20), Support(4)
    scores.update(guess, np.full(truth.shape, 10, np.uint8), truth)
    support.update(truth)
    counted = np.array([[((truth == t) & (guess == g)).sum() for g in range(4)] for t in range(4)])
    card = MapCard(
        name="four", architecture="unet", bands=(Band(name="red"),), gsd=10.0, chip_size=64,
        classes=tuple(ClassInfo(value=k, name=n, color="#000000") for k, n in enumerate(NAMES)),
        scores={**named(scores.compute(), NAMES, support), "split": "test", "pixels": truth.size},
    )  # fmt: skip
    write_json(tmp_path / "model.json", mlm.to_item(card).to_dict())
    assert tuple(json.loads((tmp_path / "model.json").read_text())["properties"]["geoml:scores"]["iou"]) == COLUMNS
    return cards.read_in(tmp_path, MapCard), counted


@pytest.mark.parametrize("kept", ["package", "plan"])
def test_the_page_and_the_table_are_of_the_right_classes(kept: str, tmp_path: Path) -> None:
    card, counted = stored(tmp_path)
    if kept == "plan":
        card = MapCard.model_validate_json(json.dumps(card.model_dump(mode="json"), sort_keys=True))
    iou = np.diag(counted) / (counted.sum(0) + counted.sum(1) - np.diag(counted))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", evaluation_report(card.scores)))
    for k, name in enumerate(NAMES):
        shares = [f"{100 * n / counted[k].sum():.1f} % {n}" for n in counted[k]]
        assert f" {name} {' '.join(shares)} " in text
        assert re.search(rf" {name} {iou[k]:.3f} [0-9. ]+ {counted[k].sum():,} \d", text)
    assert " ".join(NAMES) in text
    table = Task.table(card.scores)[0]
    assert not isinstance(table, str)
    assert [(row[0], row[1], row[5]) for row in table.rows] == [
        (name, f"{iou[k]:.3f}", str(counted[k].sum())) for k, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize("name", cards.names())
def test_the_labels_of_delivered_models_are_those_of_their_confusion(name: str) -> None:
    card = cards.read_any(name)
    if "confusion" not in card.scores:
        return
    assert isinstance(card, MapCard)
    pixels = [row["pixels"] for row in card.scores["support"].values()]
    assert pixels == [sum(row) for row in card.scores["confusion"]]
    assert list(card.scores["iou"]) == list(card.scores["support"]) == [c.name for c in card.classes]
