"""Scores against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_jaccard_index,
    multiclass_precision,
    multiclass_recall,
)

from geoml.nn.metrics import IGNORE, ClassScores

K = 4


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    target = torch.randint(0, K, (4000,), generator=random)
    raw = torch.randn(4000, K, generator=random)
    raw[torch.arange(4000), target] += 1.5
    target[:300] = IGNORE
    return torch.softmax(raw, 1), target


def test_equals_torchmetrics(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    probability, target = case
    scores = ClassScores(K, 250)
    confidence = (probability.amax(1) * 250).round().byte().numpy()
    scores.update(probability.argmax(1).byte().numpy(), confidence, target.numpy())
    found = scores.compute()
    options = {"num_classes": K, "ignore_index": IGNORE}
    matrix = multiclass_confusion_matrix(probability, target, **options)
    np.testing.assert_array_equal(found["confusion"], matrix.numpy())
    for name, oracle in {
        "iou": multiclass_jaccard_index,
        "f1": multiclass_f1_score,
        "precision": multiclass_precision,
        "recall": multiclass_recall,
    }.items():
        expected = oracle(probability, target, average="none", **options).numpy()
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    assert found["miou"] == pytest.approx(float(np.mean(found["iou"])))
    assert found["overall_accuracy"] == pytest.approx(float(matrix.diag().sum() / matrix.sum()))
    assert found["pixels"] == 3700
    error = multiclass_calibration_error(probability, target, n_bins=10, **options)
    assert found["ece"] == pytest.approx(float(error), abs=0.002)  # confidence is kept in steps of 1/250


@pytest.mark.parametrize("called", [0, 2], ids=["never called", "called where another is"])
def test_a_class_without_a_true_pixel_has_no_score_and_leaves_no_mean(called: int) -> None:
    """A mean over the other classes would call a model perfect that was never asked about this one."""
    scores = ClassScores(3, 250)
    scores.update(*(np.array([0, called, 1], np.uint8), np.full(3, 250, np.uint8), np.array([0, 0, 1])))
    found = scores.compute()
    assert found["absent"] == [2]
    assert found["iou"][1:] == found["f1"][1:] == [1.0, None]
    assert found["miou"] is None
    assert found["mean_f1"] is None
    assert found["overall_accuracy"] == pytest.approx(1.0 if called == 0 else 2 / 3)


def test_calibration_bins_say_how_often_each_confidence_was_right() -> None:
    scores = ClassScores(2, 250)
    scores.update(np.zeros(10, np.uint8), np.full(10, 200, np.uint8), np.array([0] * 6 + [1] * 4))
    found = scores.compute()
    full = [b for b in found["calibration"] if b["pixels"]]
    assert full == [{"from": 0.8, "to": 0.9, "pixels": 10, "confidence": 0.8, "accuracy": 0.6}]
    assert found["ece"] == pytest.approx(0.2)
