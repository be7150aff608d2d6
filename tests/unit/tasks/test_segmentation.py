"""The segmentation task: what it refuses, ties, and outputs that are not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geoml.engine import task as tasks
from geoml.errors import InputError, ModelError
from geoml.nn.losses import cross_entropy, dice
from geoml.tasks.segmentation import CONFIDENCE_NODATA, CONFIDENCE_SCALE, Task


def test_is_found_by_its_file_name() -> None:
    assert tasks.find("segmentation") is Task
    with pytest.raises(InputError, match="did you mean 'segmentation'"):
        tasks.find("segmentatoin")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 0}, "classes"),
        ({"classes": 256}, "classes"),
        ({"loss_parts": {"dise": 1.0}}, "did you mean 'dice'"),
        ({"loss_parts": {}}, "loss"),
        ({"loss_parts": {"dice": 0.0}}, "loss"),
        ({"loss_parts": {"dice": -1.0, "focal": 3.0}}, "loss"),
        ({"class_weights": [1.0]}, "class_weights"),
    ],
)
def test_refuses_what_makes_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Task(**{"classes": 3, **wrong})


def test_a_sum_of_losses_has_its_shares_and_class_weights() -> None:
    raw, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    weights = [1.0, 2.0, 0.5]
    task = Task(3, {"cross_entropy": 1.0, "dice": 0.5, "focal": 0.0}, weights)
    expected = cross_entropy(raw, target, torch.tensor(weights)) + 0.5 * dice(raw, target, torch.tensor(weights))
    torch.testing.assert_close(task.loss(raw, target), expected)


def test_a_tie_goes_to_the_first_class_with_half_the_confidence() -> None:
    index, confidence = Task(2).decode(torch.zeros(1, 2, 1, 1))
    assert (index.item(), confidence.item()) == (0, 125)


def test_one_class_is_certain() -> None:
    index, confidence = Task(1).decode(torch.randn(1, 1, 2, 2))
    assert not index.any()
    assert (confidence * CONFIDENCE_SCALE == 1.0).all()


def test_logits_of_any_size_neither_overflow_nor_leave_the_steps() -> None:
    raw = torch.tensor([[1e30, -1e30, 0.0], [3e38, 1.0, 2.0]]).view(2, 3, 1, 1)
    index, confidence = Task(3).decode(raw)
    assert index.flatten().tolist() == [0, 0]
    assert confidence.flatten().tolist() == [250, 250]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_refused(bad: float) -> None:
    raw = torch.zeros(1, 3, 2, 2)
    raw[0, 1, 0, 0] = bad
    _, confidence = Task(3).decode(raw)
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        Task(3).check(confidence.numpy())
    Task(3).check(np.full((2, 2), CONFIDENCE_NODATA, np.uint8))
