"""The shipped recipes of objects on the real data: labels where they should be, no shared ground, a small epoch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geoml.data.chips import Reader, measure
from geoml.data.prepare import check, prepare
from geoml.data.scene import Sample
from geoml.data.targets.boxes import boxes_of
from geoml.engine import task as tasks
from geoml.pipeline import training

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]

BOXES = {
    "kit-cars": {"train": 903, "val": 381, "test": 509},  # 1,338 of a but for its bus and what the gap cuts
    "neon-crowns": {"train": 217, "val": 79, "test": 76},  # 375 but for three whose centre has no data
    "urban-trees-points": {"train": 7872, "val": 1066, "test": 1212},
    "osm-building-boxes": {"train": 87, "val": 30, "test": 60},
    "osm-building-outlines": {"train": 87, "val": 30, "test": 60},
}
SMALL: dict[str, dict[str, Any]] = {
    "kit-cars": {"kind": "files", "train": ["a/000001"], "val": ["a/000025"], "test": ["b/000001"]},
    "neon-crowns": {"kind": "files", "train": ["043"], "val": ["044"], "test": ["058"]},
    "urban-trees-points": {
        "kind": "files",
        "train": ["claremont_2016_1*"],
        "val": ["riverside_2016_*"],
        "test": ["santa_monica_2016_1*"],
    },
}


def shipped(name: str) -> Any:
    return training(name)[1]


@pytest.mark.parametrize("name", sorted(BOXES))
def test_splits_hold_their_boxes_and_share_no_ground(name: str) -> None:
    recipe, reader = shipped(name), Reader()
    splits = prepare(recipe)  # raises when ground is shared
    check(splits, recipe, reader)
    counts = {part: int(measure(splits[part], recipe.target, reader).counted.sum()) for part in BOXES[name]}
    assert counts == BOXES[name]


def edges(sample: Sample) -> np.ndarray[Any, Any]:
    """How much the brightness changes at each pixel."""
    return np.hypot(*np.gradient(sample.image.astype(float).mean(0)))


def test_cars_have_edges_where_their_boxes_are() -> None:
    """Boxes and images lie on each other: a box changes more than the street beside it."""
    here, away = [], []
    for piece in prepare(shipped("kit-cars"))["train"][:6]:
        sample = piece.scene.read()
        strength = edges(sample)
        for top, left, bottom, right in boxes_of(sample.target)[:, 2:].round().astype(int):
            for out, shift in ((here, 0), (away, bottom - top)):
                rows = slice(max(top + shift, 0), max(bottom + shift, 0))
                part = strength[rows, max(left, 0) : max(right, 0)]
                if part.shape == (bottom - top, right - left):
                    out.append(part.mean())
    assert np.mean(here) > 1.2 * np.mean(away)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOXES))
def test_one_small_epoch(name: str, tmp_path: Path) -> None:
    value = shipped(name).model_dump(mode="json", exclude_unset=True)
    value |= {
        "epochs": 1,
        "batch": 2,
        "chip_size": 192,  # a quarter of the buildings is longer than 96
        "sampling": {"kind": "balanced", "samples": 4},
        "early_stopping": None,
    }
    value["split"] = SMALL.get(name, value["split"])
    recipe = tasks.find("detection").recipe.model_validate(value)
    tasks.find("detection").fit(recipe, tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "model.json").read_text())
    assert "ap50" in json.dumps(scores)
    with Image.open(tmp_path / "out" / "labels.png") as picture:
        assert picture.width > 1000
