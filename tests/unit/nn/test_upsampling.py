"""A U-Net whose upsampling is joined with its convolutions: one function, and the same bits wherever it is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geoml import models
from geoml.nn.fusion import fuse_batch_norms
from geoml.nn.upsampling import JoinedBlock, join_upsampling
from tests.unit.nn.test_fusion import randomised

NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "unet": ({"encoder": "resnet18"}, 5),
    "siamese_unet": ({"dates": 2, "depth": 3}, 3),
}
"""Arguments, and how many blocks of the decoder there are."""


def joined(module: torch.nn.Module) -> int:
    return sum(isinstance(m, JoinedBlock) for m in module.modules())


@pytest.mark.parametrize("architecture", NETWORKS)
def test_joined_is_the_same_function(architecture: str) -> None:
    config, blocks = NETWORKS[architecture]
    torch.manual_seed(0)
    network = randomised(models.build(architecture, {"bands": 3, "classes": 4, **config}))
    channels = 3 * config.get("dates", 1)
    fused = fuse_batch_norms(network, torch.randn(1, channels, 64, 64))
    out = join_upsampling(fused, torch.randn(1, channels, 64, 64))
    assert joined(out) == blocks
    assert joined(fused) == 0, "the network itself stays as it was"
    x = torch.randn(2, channels, 95, 64)
    with torch.inference_mode():
        expected, found = fused(x), out(x)
    assert (found - expected).abs().max() <= 1e-5 * float(expected.abs().max())


def test_the_last_bits_do_not_depend_on_the_cut() -> None:
    torch.manual_seed(0)
    network = randomised(models.build("unet", {"bands": 3, "classes": 4, "encoder": "resnet18", "depth": 3}))
    x = torch.randn(1, 3, 256, 416).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        out = join_upsampling(fuse_batch_norms(network, x), x)
        whole = out(x)
        for y0, x0, y1, x1 in ((0, 32, 256, 416), (32, 0, 256, 320), (0, 64, 224, 352)):
            part = out(x[..., y0:y1, x0:x1].contiguous(memory_format=torch.channels_last))
            far = 96  # beyond what this network sees
            here = (..., slice(y0 + far, y1 - far), slice(x0 + far, x1 - far))
            assert torch.equal(part[..., far:-far, far:-far], whole[here])


def test_what_does_not_work_so_stays_as_it_is() -> None:
    for architecture in ("deeplabv3plus", "segnet"):
        network = models.build(architecture, {"bands": 3, "classes": 2}).eval()
        assert join_upsampling(network, torch.randn(1, 3, 64, 64)) is network
