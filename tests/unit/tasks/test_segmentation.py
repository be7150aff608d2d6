"""The segmentation task: what it refuses, and losses with shares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geoml.engine import task as tasks
from geoml.errors import InputError
from geoml.nn.losses import cross_entropy, dice
from geoml.tasks.segmentation import Task


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
