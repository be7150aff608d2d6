"""The task of objects: what its card says after training, what it refuses, and what is printed of its scores."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import ValidationError

from geoml import testing
from geoml.cli.common import print_scores
from geoml.data.targets.boxes import BoxTarget
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.nn.objects.centre_heat import render
from geoml.tasks._detection_record import check_sides, record
from geoml.tasks._detection_scores import HeldOutObjects
from geoml.tasks.detection import DetectionRecipe, Task
from geoml.vector.boxes import COLUMNS
from geoml.vector.masks import SIDE, packed

NAMES = ("car", "house")
SHAPE = (192, 192)
SOURCE = {
    "kind": "boxes", "root": ".", "images": "{id}.tif", "boxes": "{id}.geojson", "coordinates": "pixels",
    "field": "name", "file_bands": ["red"],
}  # fmt: skip


def recipe(**changes: Any) -> DetectionRecipe:
    classes = [{"value": 7 - 4 * k, "name": n, "color": "#102030"} for k, n in enumerate(NAMES)]
    value = {
        "name": "made", "task": "detection", "model": {"architecture": "centre"}, "bands": ["red"], "gsd": 0.5,
        "chip_size": 64, "classes": classes, "split": {"kind": "files"}, "source": SOURCE, **changes,
    }  # fmt: skip
    return DetectionRecipe.model_validate(value)


def card(**changes: Any) -> MapCard:
    made = testing.card("made", ["red"], list(NAMES), task="detection", chip_size=64, gsd=0.5)
    return made.model_copy(update={"classes": recipe().classes, **changes})


def answers(seed: int, count: int = 60) -> tuple[NDArray[np.float64], NDArray[np.float32], int]:
    """Candidates (n, 8) of a picture, its target, and the number of true boxes: three quarters are found, the scores
    are half of what they should be, and half as many are wrong."""
    random = np.random.default_rng(seed)
    cell = np.stack(np.meshgrid(np.arange(12), np.arange(12), indexing="ij"), -1).reshape(-1, 2) * 16.0
    place = cell[random.permutation(len(cell))[: count + count // 2]]
    size = random.integers(6, 14, (len(place), 2))
    index = (np.arange(len(place)) % 4 == 0).astype(float)
    boxes = np.column_stack([index, place, place + size])
    real, wrong = boxes[:count], boxes[count:]
    found = np.concatenate([real[random.random(count) < 0.75], wrong])
    right = np.arange(len(found)) < len(found) - len(wrong)
    score = np.where(right, random.beta(5, 3, len(found)), random.beta(3, 5, len(found))) / 2
    moved = found[:, 1:] + np.where(right, random.integers(0, 2, len(found)), 0)[:, None]
    top, left, bottom, right_edge = moved.T
    half = (bottom - top) / 2, (right_edge - left) / 2
    columns = {"y": top + half[0], "x": left + half[1], "score": score, "class": found[:, 0]}
    columns |= {"north": half[0], "south": half[0], "west": half[1], "east": half[1]}
    keep = score >= 0.05
    return np.column_stack([columns[name] for name in COLUMNS])[keep], render(real, SHAPE), count


def held(card: MapCard, seeds: range, **changes: Any) -> HeldOutObjects:
    found = HeldOutObjects(card, recipe(**changes))
    window = Window(1000, -500, 1000 + SHAPE[0], -500 + SHAPE[1])
    for seed in seeds:
        candidates, target, _ = answers(seed)
        for axis, start in (("y", window.y0), ("x", window.x0)):
            candidates[:, COLUMNS.index(axis)] += start
        found.add([candidates], target, window)
    return found


def judged(seeds: range = range(12), **changes: Any) -> Any:
    return record(card(), recipe(**changes), held(card(), seeds).scores, np.array([4.0, 31.0]))


def test_thresholds_and_confidences_are_learnt_on_validation_and_hold_elsewhere() -> None:
    told = judged()
    one = told.classes["car"]
    assert (one.calibration, one.chosen) == ("isotonic", "f1")
    assert 0.1 < one.threshold < 0.35
    assert one.matched <= one.truth == 12 * 45
    assert one.recall == pytest.approx(one.hits / one.truth)
    assert told.sizes is not None
    assert (told.sizes.least, told.sizes.most, told.sizes.seen) == (2.0, 15.5, 32.0)
    before = held(card(), range(100, 112)).compute()
    after = held(card(detection=told), range(100, 112)).compute()
    assert after["f1"] > before["f1"] + 0.1
    assert (before["calibration"]["calibrated"], after["calibration"]["calibrated"]) == (False, True)
    assert after["calibration"]["d_ece"] < 0.07 < before["calibration"]["d_ece"]
    assert after["calibration"]["d_ece_candidates"] < 0.06
    assert abs(after["calibration"]["count_error"]) < 0.1 < abs(before["calibration"]["sum_error"])
    assert after["calibration"]["inside"] / after["calibration"]["squares"] > 0.9
    assert before["calibration"]["count_error"] is None
    assert before["ap50"] == after["ap50"]


def test_a_stated_precision_is_kept_and_one_that_is_not_reached_is_said(caplog: pytest.LogCaptureFixture) -> None:
    strict, best = judged(threshold={"precision": 0.97}).classes["car"], judged().classes["car"]
    assert strict.chosen == "precision 0.97"
    assert strict.precision >= 0.96
    assert strict.recall < best.recall
    assert strict.threshold > best.threshold
    with caplog.at_level(logging.WARNING):
        wrong = held(card(), range(2))
        for pictures in wrong.scores.pictures:
            for picture in pictures:
                picture.score[:1] = 0.999  # the surest is far from anything
                picture.found[:1] += 1000
        told = record(card(), recipe(threshold={"precision": 1.0}), wrong.scores, np.array([4.0])).classes["car"]
    assert told.chosen == "f1, since precision 1 is not reached"
    assert "car has no score that reaches a precision of 1" in caplog.text


def test_of_too_few_matches_nothing_is_learnt(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scores = HeldOutObjects(card(), recipe()).scores
        candidates, target, _ = answers(1, 20)
        scores.update(candidates, target)
        told = record(card(), recipe(), scores, np.array([4.0])).classes["house"]
    assert (told.threshold, told.chosen, told.calibration, told.knots, told.squares) == (0.3, "default", None, (), ())
    assert "fewer than 10 boxes of house are matched" in caplog.text


def test_a_record_stays_small_however_many_squares_there_are() -> None:
    large = card(chip_size=16)
    scores = held(large, range(12)).scores
    told = record(large, recipe(), scores, np.array([4.0])).classes["car"]
    assert len(told.squares) <= 256
    assert sum(n for _, n in told.squares) == told.truth
    assert len(told.curve) <= 40


def test_what_the_network_cannot_see_is_warned_of_with_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        told = record(card(radius=10), recipe(), held(card(), range(2)).scores, np.array([4.0, 8.0, 30.0]))
    assert told.sizes is not None
    assert told.sizes.seen == 10.5
    assert "1 of 3 training boxes are longer than the 10.5 m that the network sees" in caplog.text


def test_boxes_larger_than_a_chip_are_warned_of_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    sides = np.append(np.full(19, 20.0), 90.0)
    with caplog.at_level(logging.WARNING):
        check_sides(recipe(), {"train": sides, "val": sides})
    assert "1 of 20 training boxes are longer than a chip of 64 pixels (32 m), the longest 45 m" in caplog.text
    with pytest.raises(InputError, match=r"chip_size: 3 of 22 training boxes are longer"):
        check_sides(recipe(), {"train": np.append(sides, [80.0, 81.0]), "val": sides})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sizes": [3.0, 2.0]}, "expected each larger than the one before"),
        ({"threshold": {"precision": 1.5}}, "less than or equal to 1"),
        ({"threshold": "f2"}, "f1"),
        ({"match_distance": 0}, "greater than 0"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        recipe(**wrong)


def test_options_of_scores_leave_the_hash_of_old_recipes_alone() -> None:
    assert recipe(match_distance=6.0).hash == recipe().hash != recipe(match_distance=3.0).hash


def test_sizes_of_the_recipe_are_metres() -> None:
    found = held(card(), range(3), sizes=[4.0, 5.5]).compute()
    assert [(row["from"], row["below"]) for row in found["by_size"]] == [(0.0, 4.0), (4.0, 5.5), (5.5, None)]
    assert sum(row["truth"] for row in found["by_size"]) == found["truth"]
    assert all(0 < row["ap"] < 1 for row in found["by_size"])
    thirds = [row["truth"] / found["truth"] for row in held(card(), range(3)).compute()["by_size"]]
    assert 0.15 < min(thirds) <= max(thirds) < 0.55


def test_points_are_in_metres_too() -> None:
    near, far = (held(card(), range(3), match_distance=d).compute()["points"] for d in (0.2, 6.0))
    assert near["recall"] < far["recall"]
    assert 0.1 < far["rmse"] < 3


def test_doing_nothing_and_guessing_are_worse() -> None:
    found = held(card(), range(3)).compute()
    assert found["nothing"]["f1"] == 0
    assert 0 < found["guess"]["f1"] < found["f1"] / 2
    assert found["guess"]["points_f1"] > found["guess"]["f1"]


def test_all_of_it_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    scores = {"split": "test", "model": "m", **held(card(detection=judged()), range(100, 104)).compute()}
    print_scores("detection", scores)
    said = capsys.readouterr().out
    for words in (
        "test split, 240 true boxes", "AP50", "AP75", "threshold", "by the longer side", "D-ECE of what is reported",
        "calibrated confidence: ", "against the true count: sum of confidences", "expected count ",
        "squares of ground", "centres within 6 m: precision", "RMSE (m)", "a map without objects: AP50 0.000",
        "as many boxes of the median size on a lattice: AP50",
    ):  # fmt: skip
        assert words in said, words
    page = Task.page(scores)
    assert "centres within 6 m" in page
    assert "<caption>by the longer side</caption>" in page


def test_outlines_are_scored_and_printed_beside_boxes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disc as it is, and a box in its place: the boxes of both are right, the outline of the disc alone is."""
    monkeypatch.setenv("COLUMNS", "200")
    kind = BoxTarget(card().classes, masks=True)
    shapes = [(shapely.Point(20 + 30 * k, 24).buffer(10), k) for k in range(2)]
    truth = kind.of_features(shapes, GeoBox((48, 64), Affine.identity(), "EPSG:3857"), 0)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    cells = np.stack([np.hypot(y - 14, x - 14) < 14, np.ones((SIDE, SIDE), bool)])
    boxes = np.array([[24, 20 + 30 * k, 10, 10, 10, 10, 0.9, k] for k in range(2)], float)
    judge = HeldOutObjects(card(), recipe())
    judge.add([np.column_stack([boxes, packed(cells)])], truth, Window(0, 0, 48, 64))
    found = judge.compute()
    car, house = found["by_class"].values()
    assert (car["ap"], car["mask_ap50"], house["ap"]) == (1.0, 1.0, 1.0)
    assert car["mask_ap"] > 0.85, "cells are not pixels"
    assert house["mask_ap"] == pytest.approx(0.6), "pi / 4 of the box: six of ten overlaps"
    print_scores("detection", {"split": "test", "model": "m", **found})
    said = capsys.readouterr().out
    assert "by the pixels of outlines" in said
    assert f"mask AP {found['mask_ap']:.3f}  mask AP50 1.000" in said
    assert "mask AP" not in str(Task.table({"split": "test", **held(card(), range(1)).compute()}))


def test_scores_of_a_card_from_before_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"ap50": 0.5, "precision": None, "recall": 0.0, "f1": 0.0, "truth": 4, "found": 0}
    old = {"split": "test", **row, "by_class": {"car": row}, "count_error": -1.0, "confident": 0.3, "pixels": 9}
    print_scores("detection", {**old, "nothing": {"ap50": 0.0, "recall": 0.0, "f1": 0.0, "count_error": -1.0}})
    said = " ".join(capsys.readouterr().out.split())
    assert "AP none AP50 0.500" in said
    assert "at 0.4 and a score of 0.3 or more" in said
