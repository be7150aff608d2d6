"""What every file in geoml/tasks promises; a new file gets these tests without another edit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geoml import tasks, testing
from geoml.engine.contract import pixel_output
from geoml.engine.inference.predict import stored
from geoml.nn.losses import IGNORE, LOSSES

CLASSES = 4


@pytest.fixture(params=tasks.names())
def task(request: pytest.FixtureRequest) -> object:
    return tasks.find(request.param).Task(CLASSES, dict.fromkeys(LOSSES, 1.0))


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    raw = torch.randn(3, CLASSES, 16, 12, generator=random)
    return raw, torch.randint(0, CLASSES, (3, 16, 12), generator=random)


def answers(task, raw: Tensor) -> list[np.ndarray]:  # type: ignore[no-untyped-def]
    """What the output that the task names makes of raw output, as scores take it: each (B, y, x)."""
    names = [f"class {k}" for k in range(CLASSES)]
    output = pixel_output(testing.card("made", ["red"], names, task=task.name))
    found = output.answer(stored(output, raw, np.ones(raw[:, 0].shape, bool)))
    return [a.reshape(raw[:, 0].shape) for a in found]


def scores(task, raw: Tensor, target: Tensor) -> dict:  # type: ignore[no-untyped-def, type-arg]
    total = task.scores()
    total.update(*answers(task, raw), target.numpy())
    return total.compute()


def test_perfect_output_scores_one(task) -> None:  # type: ignore[no-untyped-def]
    _, target = batch()
    raw = 50.0 * torch.nn.functional.one_hot(target, CLASSES).movedim(-1, 1)
    found = scores(task, raw, target)
    assert found["overall_accuracy"] == found["miou"] == found["mean_f1"] == 1.0
    assert found["ece"] == 0.0
    assert float(task.loss(raw, target)) < 1e-6


def test_parts_score_as_the_whole(task) -> None:  # type: ignore[no-untyped-def]
    raw, target = batch()
    found = answers(task, raw)
    total = task.scores()
    for part in (slice(2, 3), slice(0, 1), slice(1, 2)):
        piece = task.scores()
        piece.update(*(a[part] for a in found), target.numpy()[part])
        total.merge(piece)
    assert total.compute() == scores(task, raw, target)


def test_nodata_moves_neither_loss_nor_gradient_nor_score(task) -> None:  # type: ignore[no-untyped-def]
    raw, target = batch()
    target[:, :5] = IGNORE
    other = raw.clone()
    other[:, :, :5] = 100 * torch.randn(3, CLASSES, 5, 12)
    assert float(task.loss(raw, target)) == float(task.loss(other, target))
    assert scores(task, raw, target) == scores(task, other, target)
    other.requires_grad_()
    task.loss(other, target).backward()
    assert other.grad is not None
    assert not other.grad[:, :, :5].any()
    assert other.grad[:, :, 5:].any()


def test_a_batch_of_nodata_gives_zero_and_no_nan(task) -> None:  # type: ignore[no-untyped-def]
    raw, target = batch()
    raw.requires_grad_()
    loss = task.loss(raw, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss.item() == 0.0
    assert raw.grad is not None
    assert not raw.grad.any()
    found = scores(task, raw.detach(), torch.full_like(target, IGNORE))
    assert found["pixels"] == 0
    assert found["miou"] is None
