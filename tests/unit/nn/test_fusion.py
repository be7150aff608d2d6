"""Batch normalisations folded into convolutions: the same function, whatever the architecture, or nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geoml import models, testing
from geoml.backends.torch import Backend, choose
from geoml.nn.fusion import fuse_batch_norms

NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "unet resnet18": ("unet", {}, 0),
    "unet efficientnet": ("unet", {"encoder": "tu-tf_efficientnet_lite0", "depth": 3}, 0),
    "deeplabv3plus": ("deeplabv3plus", {"decoder_channels": 32}, 0),
    "segnet": ("segnet", {"channels": (8, 16), "convolutions": (2, 2)}, 0),
    "dynamicworld": ("dynamicworld", {}, 0),
}
"""Architecture, config, and how many batch normalisations cannot be folded."""


def randomised(module: nn.Module) -> nn.Module:
    """With statistics and weights as after training; fresh ones (0 and 1) would fold whatever is done."""
    random = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.6, 1.5),
                (layer.weight, 0.6, 1.4),
                (layer.bias, -0.3, 0.3),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=random)
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_is_the_same_function(name: str) -> None:
    architecture, config, left = NETWORKS[name]
    torch.manual_seed(0)
    bands = 9 if architecture == "dynamicworld" else 3
    classes = 9 if architecture == "dynamicworld" else 4
    network = randomised(models.build(architecture, {"bands": bands, "classes": classes, **config}))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    count = norms(network)
    assert count > 3
    out = fuse_batch_norms(network, torch.randn(1, bands, 64, 64))
    assert norms(out) == left
    x = torch.randn(2, bands, 96, 64)
    with torch.inference_mode():
        expected, found = network(x), out(x)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert norms(network) == count, "the network itself stays as it was"
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Twice(nn.Module):
    """The output of the convolution is used beside the normalised one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


class Shared(nn.Module):
    """One convolution is called twice, with two normalisations behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.conv(self.one(self.conv(x))))


class Between(nn.Module):
    """Something happens between convolution and normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)))


class Looked(nn.Module):
    """The forward asks its normalisation for more than its output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.norm.eps


@pytest.mark.parametrize("kind", [Twice, Shared, Between, Looked])
def test_what_cannot_be_folded_is_left_alone(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = randomised(kind())
    assert fuse_batch_norms(network, torch.randn(1, 2, 16, 16)) is network


def test_statistics_of_the_batch_are_not_folded() -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    network = nn.Sequential(nn.Conv2d(2, 2, 3), norm).eval()
    assert fuse_batch_norms(network, torch.randn(1, 2, 16, 16)) is network


def test_a_network_without_normalisation_is_itself() -> None:
    network = nn.Conv2d(2, 2, 3).eval()
    assert fuse_batch_norms(network, torch.randn(1, 2, 16, 16)) is network


seen: list[tuple[int, ...]] = []


class Counted(nn.Module):
    """A network that says, as its copies do, what it is run on."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        found: Tensor = self.norm(self.conv(x))
        return found


@pytest.mark.parametrize(("norm", "forwards"), [(True, 2), (False, 0)])
def test_making_a_backend_costs_no_more_than_small_forwards(norm: bool, forwards: int) -> None:
    card = testing.card("counted", ("red", "nir"), ("low", "high"), chip_size=512, stride=4)
    seen.clear()
    Backend(Counted(norm), card.signature, choose("cpu", "fp32"))
    memory = [(1, 2, 64, 64), (1, 2, 32, 32)]
    assert seen == [(1, 2, 64, 64)] * forwards + memory
