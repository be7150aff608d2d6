"""Losses against torch's own and against sums written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from geoml.nn.losses import cross_entropy, dice, focal
from geoml.nn.metrics import IGNORE


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 5, 7), generator=random)
    target[0, :2] = IGNORE
    return torch.randn(2, 3, 5, 7, generator=random), target


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_cross_entropy_is_that_of_torch(weight: Tensor | None) -> None:
    raw, target = batch()
    torch.testing.assert_close(
        cross_entropy(raw, target, weight), F.cross_entropy(raw, target, weight, ignore_index=IGNORE)
    )


def test_focal_without_focus_is_cross_entropy_and_with_it_turns_easy_pixels_down() -> None:
    raw, target = batch()
    torch.testing.assert_close(focal(raw, target, gamma=0.0), cross_entropy(raw, target))
    p = torch.softmax(raw, 1).gather(1, target.where(target != IGNORE, 0)[:, None])[:, 0][target != IGNORE]
    torch.testing.assert_close(focal(raw, target), ((1 - p) ** 2 * -p.log()).mean())


def test_focal_keeps_its_gradient_finite_at_certainty() -> None:
    raw = torch.tensor([[200.0], [-200.0]]).view(1, 2, 1, 1).requires_grad_()
    focal(raw, torch.zeros(1, 1, 1, dtype=torch.int64)).backward()
    assert raw.grad is not None
    assert bool(torch.isfinite(raw.grad).all())


def test_dice_by_hand() -> None:
    raw = torch.tensor([[0.0, 50.0], [0.0, -50.0]]).view(1, 2, 1, 2)  # p of class 0: 0.5, 1
    target = torch.tensor([[[1, 0]]])
    class_0, class_1 = 1 - 2 * 1 / (1.5 + 1), 1 - 2 * 0.5 / (0.5 + 1)
    assert dice(raw, target).item() == pytest.approx((class_0 + class_1) / 2)


def test_dice_leaves_out_a_class_that_the_target_does_not_hold() -> None:
    raw = torch.full((1, 3, 4, 4), -50.0)
    raw[:, 0] = 50.0
    assert dice(raw, torch.zeros(1, 4, 4, dtype=torch.int64)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("loss", [cross_entropy, focal, dice])
def test_half_precision_logits_are_summed_in_float32(loss) -> None:  # type: ignore[no-untyped-def]
    raw, target = batch()
    assert loss(raw.bfloat16(), target).dtype == torch.float32
