"""The list of models, their configs, and the parts that only one of them has."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from geoml import models
from geoml.errors import InputError
from geoml.models.dynamicworld import halved
from geoml.nn.padding import padded


def test_names_are_file_names_and_listing_them_needs_no_torch() -> None:
    assert {"unet", "deeplabv3plus", "segnet", "dynamicworld"} <= set(models.names())
    code = "import sys; from geoml import models; models.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'unet'"):
        models.build("unett", {})
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        models.build("unet", {"bands": 3, "classes": 2, "encoder": "resnet81"})
    with pytest.raises(InputError, match="did you mean 'tu-tf_efficientnet_lite0'"):
        models.build("unet", {"bands": 3, "classes": 2, "encoder": "tu-tf_efficientnet_lite00"})


@pytest.mark.parametrize(
    ("architecture", "wrong", "message"),
    [
        ("unet", {"depth": 2}, "depth"),
        ("unet", {"depth": 3, "decoder_channels": [8, 8]}, "decoder_channels"),
        ("unet", {"encoder": "vgg11", "depth": 5, "decoder_channels": [0, 0, 0, 0, 0]}, "does not fit"),
        ("deeplabv3plus", {"output_stride": 32}, "output_stride"),
        ("deeplabv3plus", {"encoder": "vgg11"}, "does not fit"),
        ("segnet", {"channels": [8], "convolutions": [1, 1]}, "equal lengths"),
        ("segnet", {"channels": [8], "convolutions": [0]}, "above zero"),
        ("dynamicworld", {"log_shift": [0.0, 1.0]}, "log_shift"),
        ("dynamicworld", {"log_scale": [0.0]}, "log_scale"),
    ],
)
def test_a_wrong_value_is_named(architecture: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.build(architecture, {"bands": 3, "classes": 2, **wrong})


def test_a_shallow_unet_carries_no_deep_layers() -> None:
    deep, shallow = (models.build("unet", {"bands": 3, "classes": 2, "depth": d}) for d in (5, 3))
    count = {m: sum(p.numel() for p in m.parameters()) for m in (deep, shallow)}
    assert count[shallow] < count[deep] / 10
    assert not any("layer4" in k for k in shallow.state_dict())


@pytest.mark.parametrize("name", ["unet", "siamese_unet", "deeplabv3plus"])
def test_a_network_built_in_inference_mode_has_all_its_layers(name: str) -> None:
    """None has a gradient there, so each would seem to be without use."""
    config = {**models.find(name).TINY, **models.fixed_by_data(name, 3, 2, 2)}
    usual = models.build(name, config)
    with torch.inference_mode():
        inside = models.build(name, config)
    assert {k: v.shape for k, v in inside.state_dict().items()} == {k: v.shape for k, v in usual.state_dict().items()}
    assert not any(p.is_inference() for p in inside.parameters())


def test_padding_leaves_a_fitting_size_alone_and_crops_the_rest() -> None:
    seen = []

    def same(x: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[-2:]))
        return x

    for size in ((8, 16), (7, 9), (1, 1)):
        x = torch.randn(1, 2, *size)
        assert torch.equal(padded(same, x, 8), x)
    assert seen == [(8, 16), (8, 16), (8, 8)]


@pytest.mark.parametrize("size", [(2, 2), (4, 10), (64, 32)])
def test_halving_is_torchs_antialiased_resize(size: tuple[int, int]) -> None:
    x = torch.randn(2, 5, *size)
    expected = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(halved(x), expected, atol=1e-6, rtol=1e-6)


def test_segnet_unpools_to_where_the_maximum_was() -> None:
    module = models.build("segnet", {"bands": 1, "classes": 1, "channels": [1], "convolutions": [1]}).eval()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d):  # every convolution hands its input through
                part.weight.zero_()
                part.weight[:, :, 1, 1] = 1.0
                if part.bias is not None:
                    part.bias.zero_()
        x = torch.zeros(1, 1, 4, 4)
        x[0, 0, 1, 2] = 5.0
        y = module(x)
    assert torch.argwhere(y[0, 0] > 1).tolist() == [[1, 2]]


def test_segnet_in_bf16_unpools_to_where_the_maximum_was_in_fp32() -> None:
    """Deep enough that ties add up: with an encoder in bf16 more than a fifth of these classes are others."""
    torch.manual_seed(0)
    sizes = {"channels": [16, 32, 64, 64], "convolutions": [2, 2, 3, 3]}
    module = models.build("segnet", {"bands": 4, "classes": 5, **sizes}).train()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(3):  # statistics of real batches
            module(torch.randn(2, 4, 64, 64, generator=random))
        module.eval()
        x = torch.randn(1, 4, 96, 96, generator=random)
        exact = module(x).argmax(1)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = module(x).argmax(1)
    assert float((coarse != exact).float().mean()) < 0.03
