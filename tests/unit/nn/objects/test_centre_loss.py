"""What is rendered of boxes, and the loss against it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import HEAT, INDEX, SIDES, render
from geoml.nn.objects.centre_loss import centre_loss

BOXES = np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61], [1, 1, 1, 3, 3]], float)
SHAPE = (32, 64)


def target(boxes: np.ndarray = BOXES) -> Tensor:
    return torch.from_numpy(render(boxes, SHAPE))[None]


def right(rendered: Tensor, classes: int = 2) -> Tensor:
    """Raw output that is sure of the truth."""
    heat, index = rendered[:, HEAT], rendered[:, INDEX]
    peaks = torch.stack([(heat == 1) & (index == k) for k in range(classes)], 1)
    sides = rendered[:, SIDES].clamp(min=0.1).log()
    return torch.cat([torch.where(peaks, 30.0, -30.0), sides], 1)


def test_every_box_has_one_centre_and_its_sides_are_where_they_were() -> None:
    found = render(BOXES, SHAPE)
    y, x = np.nonzero(found[HEAT] == 1)
    even = [(1, 1), (1, 2), (2, 1), (2, 2), (11, 9), (11, 10), (12, 9), (12, 10)]  # between four pixels
    assert sorted(zip(y.tolist(), x.tolist(), strict=True)) == [*even, (13, 45)]
    for index, top, left, bottom, right_side in BOXES:
        row, col = int((top + bottom) / 2), int((left + right_side) / 2)
        assert found[INDEX, row, col] == index
        north, south, west, east = found[SIDES, row, col]
        assert (row + 0.5 - north, row + 0.5 + south, col + 0.5 - west, col + 0.5 + east) == (
            top,
            bottom,
            left,
            right_side,
        )
    inside = found[HEAT] > 0
    assert (found[SIDES][:, inside] > 0).all(), "a Gaussian stays inside of its box"


def test_of_two_at_one_place_the_smaller_has_its_centre_and_what_lies_outside_leaves_nothing() -> None:
    nested = render(np.array([[0, 0, 0, 31, 31], [1, 12, 12, 19, 19]], float), (32, 32))
    assert (nested[HEAT] == 1).sum() == 1
    assert nested[INDEX, 15, 15] == 1
    assert not render(np.array([[0, -40, -40, -10, -10], [0, 40, 5, 60, 9]], float), SHAPE).any()
    half = render(np.array([[0, -10, 10, 30, 20]], float), SHAPE)
    assert (half[HEAT] == 1).sum() == 4
    half = render(np.array([[0, -30, 10, 28, 20]], float), SHAPE)
    assert not (half[HEAT] == 1).any()
    assert half[HEAT].any()


def test_no_boxes_render_as_nothing_and_unknown_ground_as_unknown() -> None:
    assert not render(np.empty((0, 5)), SHAPE).any()
    assert (render(np.empty((0, 5)), SHAPE, IGNORE)[INDEX] == IGNORE).all()


def test_the_right_output_costs_nothing_and_any_other_more() -> None:
    rendered = target()
    best = float(centre_loss(right(rendered), rendered))
    assert best < 1e-3
    other = right(rendered)
    other[:, -1] += 0.3
    assert float(centre_loss(other, rendered)) > best + 0.1
    other = right(rendered)
    other[0, 0, 25, 25] = 5.0  # a centre that is none
    assert float(centre_loss(other, rendered)) > best + 0.5
    other = right(rendered)
    other[0, 0, 12, 10] = -5.0  # one that is missed
    assert float(centre_loss(other, rendered)) > best + 0.5


def test_what_is_unknown_moves_neither_loss_nor_gradient() -> None:
    rendered = target()
    rendered[:, INDEX, :, :32] = IGNORE
    raw = torch.randn(1, 6, *SHAPE, generator=torch.Generator().manual_seed(0))
    other = raw.clone()
    other[..., :32] = 9.0
    other.requires_grad_()
    loss = centre_loss(other, rendered)
    assert float(loss.detach()) == float(centre_loss(raw, rendered))
    loss.backward()
    assert other.grad is not None
    assert not other.grad[..., :32].any()
    assert other.grad[..., 32:].any()


def test_a_batch_without_objects_or_without_anything_known_has_no_nan() -> None:
    raw = torch.randn(2, 6, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    empty = torch.from_numpy(render(np.empty((0, 5)), SHAPE)).expand(2, -1, -1, -1)
    assert float(centre_loss(raw, empty).detach()) > 0
    unknown = empty.clone()
    unknown[:, INDEX] = IGNORE
    loss = centre_loss(raw, unknown)
    loss.backward()
    assert float(loss.detach()) == 0
    assert raw.grad is not None
    assert not raw.grad.any()
