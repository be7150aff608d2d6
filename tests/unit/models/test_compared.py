"""Comparison of two segmentations: probabilities of independent maps, multiplied and added up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from geoml import models
from geoml.errors import InputError

INNER = {"architecture": "segnet", "config": {"channels": [4, 8], "convolutions": [1, 1]}}


def made(bands: int = 2, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return models.build("compared", {**INNER, "bands": bands, **options}).eval()


def pair(height: int = 16, width: int = 12) -> Tensor:
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(1))


def maps(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of either date by the inner network alone."""
    with torch.no_grad():
        return module.net(x[:, :2]).softmax(1), module.net(x[:, 2:]).softmax(1)


def test_probabilities_are_sums_of_products() -> None:
    x = pair()
    full, binary = made(classes=7, inner=3), made(classes=2, inner=3)
    first, second = maps(full, x)
    with torch.no_grad():
        found, two = full(x).softmax(1), binary(x).softmax(1)
    same = sum(first[:, k] * second[:, k] for k in range(3))
    torch.testing.assert_close(found[:, 0], same)
    order = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    for k, (i, j) in enumerate(order, 1):
        torch.testing.assert_close(found[:, k], first[:, i] * second[:, j])
    torch.testing.assert_close(two, torch.stack([same, 1 - same], 1), atol=1e-5, rtol=1e-4)


def test_logits_are_logarithms_of_probabilities_and_finite_however_sure_the_maps_are() -> None:
    module = made(classes=7)
    with torch.no_grad():
        module.net.head.weight.mul_(1e4)
        y = module(pair())
    assert bool(torch.isfinite(y).all())
    torch.testing.assert_close(y.exp().sum(1), torch.ones(2, 16, 12))


def test_a_change_that_is_next_to_impossible_keeps_its_probability() -> None:
    module = made(1, classes=2)
    module.net = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        module.net.weight.copy_(torch.tensor([[[[1.0]]], [[[0.0]]]]))
        module.net.bias.zero_()
        y = module(torch.full((1, 2, 1, 1), 40.0)).flatten()
    assert float(y[1]) == pytest.approx(math.log(2) - 40, abs=1e-4)


def test_a_swap_of_dates_turns_every_pair_round() -> None:
    x, module = pair(), made(classes=7)
    with torch.no_grad():
        there, back = module(x), module(torch.cat([x[:, 2:], x[:, :2]], 1))
    torch.testing.assert_close(back, there[:, [0, 3, 5, 1, 6, 2, 4]])


@pytest.mark.parametrize(("classes", "inner"), [(2, 2), (3, 2), (7, 3), (13, 4), (241, 16)])
def test_the_number_of_classes_says_how_many_are_compared(classes: int, inner: int) -> None:
    assert models.configure("compared", {**INNER, "bands": 1, "classes": classes}).count == inner
    assert made(1, classes=classes)(torch.zeros(1, 2, 5, 7)).shape == (1, classes, 5, 7)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"classes": 6}, "classes: 6"),
        ({"classes": 7, "inner": 2}, "2, or 3 for 2 classes"),
        ({"inner": 1}, "at least two"),
        ({"inner": 300}, "at most 255"),
        ({"architecture": "unet", "config": {"encoder_weights": "imagenet"}}, "encoder_weights"),
        ({"dates": 3}, "dates"),
        ({"bands": 0}, "at least one"),
        ({"architecture": "cva", "config": {}}, "expected a model of segmentation"),
        ({"architecture": "compared"}, "expected a model of segmentation"),
        ({"architecture": "segnett"}, "did you mean 'segnet'"),
        ({"config": {"chanels": [4]}}, "did you mean 'channels'"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        made(**{"bands": 2, **wrong})
