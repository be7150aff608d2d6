"""Scores of change against torchmetrics, and objects counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_calibration_error,
    binary_cohen_kappa,
    binary_f1_score,
    binary_jaccard_index,
    binary_precision,
    binary_recall,
)

from geoml.nn.change_scores import ChangeScores
from geoml.nn.metrics import IGNORE, ClassScores

K = 3


def case(seed: int = 5, count: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index, probability of change in steps and target; one pixel in ten is changed."""
    random = np.random.default_rng(seed)
    target = random.choice(K, count, p=[0.9, 0.06, 0.04])
    raw = random.normal(0, 1, (count, K))
    raw[np.arange(count), target] += 1.5
    p = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    target[:300] = IGNORE
    return p.argmax(1).astype(np.uint8), np.round((1 - p[:, 0]) * 250).astype(np.uint8), target


def scored(*parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict:
    total = ChangeScores(K, 250)
    for part in parts:
        total.update(*part)
    return total.compute()


def test_change_against_none_equals_torchmetrics() -> None:
    index, step, target = case()
    found = scored((index, step, target))["change"]
    known = target != IGNORE
    guess, truth = torch.tensor(index[known] > 0).int(), torch.tensor(target[known] > 0).int()
    for name, oracle in {
        "f1": binary_f1_score,
        "iou": binary_jaccard_index,
        "precision": binary_precision,
        "recall": binary_recall,
        "kappa": binary_cohen_kappa,
    }.items():
        assert found[name] == pytest.approx(float(oracle(guess, truth)), rel=1e-5), name
    assert found["overall_accuracy"] == pytest.approx(float((guess == truth).float().mean()))
    p = torch.tensor(step[known] / 250, dtype=torch.float64)
    assert found["average_precision"] == pytest.approx(float(binary_average_precision(p, truth)), rel=1e-5)


def test_curve_and_best_threshold_are_those_of_thresholding() -> None:
    index, step, target = case()
    found = scored((index, step, target))["change"]
    known = target != IGNORE
    truth, p = target[known] > 0, step[known]
    for row in found["curve"][:: len(found["curve"]) // 7]:
        called = p >= round(row["threshold"] * 250)
        assert row["precision"] == pytest.approx(truth[called].mean())
        assert row["recall"] == pytest.approx(called[truth].mean())
    f1 = [2 * (truth & (p >= t)).sum() / (truth.sum() + (p >= t).sum()) for t in range(251)]
    assert found["best"]["f1"] == pytest.approx(max(f1))
    assert f1[round(found["best"]["threshold"] * 250)] == pytest.approx(max(f1))
    assert found["curve"][-1]["recall"] == 1.0


def test_calibration_is_that_of_the_probability_of_change() -> None:
    index, step, target = case()
    found = scored((index, step, target))
    known = target != IGNORE
    p, truth = torch.tensor(step[known] / 250), torch.tensor(target[known] > 0).int()
    # bins differ by a hair at their edges, where torchmetrics bins floats
    assert found["ece"] == pytest.approx(float(binary_calibration_error(p, truth, n_bins=10)), abs=2e-3)


def test_classes_score_as_without_change() -> None:
    index, step, target = case()
    plain = ClassScores(K, 250)
    plain.update(index, step, target)
    found = scored((index, step, target))
    rest = {k: v for k, v in plain.compute().items() if k not in ("ece", "calibration")}
    assert {k: found[k] for k in rest} == rest


def test_parts_add_up_and_survive_json() -> None:
    index, step, target = case()
    parts = [(index[s], step[s], target[s]) for s in (slice(0, 1000), slice(1000, 1001), slice(1001, None))]
    whole = scored((index, step, target))
    assert scored(*parts) == whole
    assert json.loads(json.dumps(whole)) == whole
    one, two = ChangeScores(K, 250), ChangeScores(K, 250)
    one.update(*parts[0])
    one.objects(np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8))
    two.update(*parts[1])
    two.update(*parts[2])
    two.merge(one)
    assert two.compute()["change"]["by_size"][0]["objects"] == 1
    assert two.compute()["confusion"] == whole["confusion"]


def test_no_change_at_all_has_no_score_but_an_accuracy() -> None:
    found = scored((np.zeros(5, np.uint8), np.zeros(5, np.uint8), np.zeros(5, int)))["change"]
    assert found["overall_accuracy"] == 1.0
    assert found["f1"] is found["recall"] is found["kappa"] is found["average_precision"] is found["best"] is None


def test_objects_are_counted_by_size_and_found_by_half() -> None:
    target = np.zeros((40, 40), np.uint8)
    target[0:2, 0:2] = 1  # 4 pixels
    target[2:4, 2:4] = 2  # touches it by a corner: one object of 8
    target[10:20, 10:20] = 1  # 100 pixels: the third class, from 100
    target[30:33, 30:33] = 1  # 9 pixels, missed
    target[0, 39] = IGNORE
    index = np.zeros((40, 40), np.uint8)
    index[0:2, 0:2] = 2  # half of the first, of another class
    index[10:20, 10:14] = 1  # 40 of 100: not found
    total = ChangeScores(K, 250)
    total.objects(index, target)
    found = total.compute()["change"]["by_size"]
    assert [(r["from"], r["below"], r["objects"], r["found"]) for r in found] == [
        (0, 25, 2, 1),
        (25, 100, 0, 0),
        (100, 400, 1, 0),
        (400, None, 0, 0),
    ]
    assert found[0]["recall"] == 0.5
    assert found[0]["pixel_recall"] == pytest.approx(4 / 17)
    assert found[2]["pixel_recall"] == 0.4
    assert found[1]["recall"] is None
