"""Measured radius and stride of networks whose receptive field is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.engine.packages.measure import ReceptiveField, measure


class Pooled(nn.Module):
    """Pools by two and copies back: moves with the image in steps of two only."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0, mode="nearest")


class MinusMean(nn.Module):
    """Every pixel depends on all of the chip."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True)


class Left(nn.Module):
    """Looks five pixels to the left and up only."""

    def forward(self, x: Tensor) -> Tensor:
        return x + F.pad(x, (5, 0, 5, 0))[..., :-5, :-5]


def conv(kernel: int, dilation: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(2, 2, kernel, padding=kernel // 2 * dilation, dilation=dilation)


@pytest.mark.parametrize(
    ("module", "declared", "sight"),
    [
        (nn.Identity(), 1, ReceptiveField(0, 1)),
        (conv(3), 1, ReceptiveField(1, 1)),
        (conv(3, dilation=7), 8, ReceptiveField(7, 1)),
        (nn.Sequential(conv(5), conv(3)), 4, ReceptiveField(3, 1)),
        (Pooled(), 8, ReceptiveField(0, 2)),
        (nn.Sequential(conv(3), Pooled()), 2, ReceptiveField(2, 2)),
        (nn.Sequential(Pooled(), conv(3)), 2, ReceptiveField(1, 2)),
        (Left(), 1, ReceptiveField(5, 1)),
        (MinusMean(), 4, ReceptiveField(None, 4)),
    ],
)
def test_known_networks(module: nn.Module, declared: int, sight: ReceptiveField) -> None:
    assert measure(module, 2, declared, sizes=(64, 128)) == sight


def test_a_constant_network_sees_nothing() -> None:
    module = conv(3)
    nn.init.zeros_(module.weight)
    assert measure(module, 2, 1, sizes=(64,)) == ReceptiveField(0, 1)


def test_a_faint_far_sight_is_measured_down_to_the_tolerance() -> None:
    faint, blind = conv(1), conv(1)

    class Far(nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, x: Tensor) -> Tensor:
            return faint(x) + self.share * F.pad(blind(x), (20, 0, 20, 0))[..., :-20, :-20]

    assert measure(Far(1e-3), 2, 1, sizes=(128,)).radius == 20
    assert measure(Far(1e-7), 2, 1, sizes=(128,)).radius == 0


def test_larger_scenes_are_tried_before_giving_up() -> None:
    module = nn.Sequential(conv(3, dilation=40), conv(3, dilation=40))
    assert measure(module, 2, 1, sizes=(64,)).radius is None
    assert measure(module, 2, 1, sizes=(64, 128, 256)).radius == 80


def test_batch_normalisations_are_fused_before_the_many_forwards() -> None:
    calls = []
    norm = nn.BatchNorm2d(2)
    norm.running_mean, norm.running_var = torch.tensor([0.3, -0.2]), torch.tensor([2.0, 0.5])
    norm.register_forward_hook(lambda *_: calls.append(1))
    module = nn.Sequential(conv(3), norm, conv(5)).eval()
    assert measure(module, 2, 1, sizes=(64, 128)) == ReceptiveField(3, 1)
    assert len(calls) == 1  # to find it
    assert isinstance(module[1], nn.BatchNorm2d)
