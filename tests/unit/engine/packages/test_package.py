"""Model packages: what is written is what is read, and nothing damaged or executable gets in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoml.engine.packages import package
from geoml.errors import ModelError
from geoml.io.stores import store
from tests.unit.engine.packages.tiny_water import CARD, network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package.save(network(), CARD, tmp_path / "p")
    return tmp_path / "p"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    item = json.loads((folder / "model.json").read_text())
    change(item)
    (folder / "model.json").write_text(json.dumps(item))


def replace_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other weights with a checksum that fits them."""
    save_file(tensors, folder / "model.safetensors")
    checksum = "1220" + store.sha256(folder / "model.safetensors")
    edit(folder, lambda item: item["assets"]["model"].update({"file:checksum": checksum}))


def test_save_measures_and_load_gives_the_same_back(folder: Path) -> None:
    loaded = package.load(folder)
    card = loaded.card
    assert card.model_dump(exclude={"stride", "radius", "sha256", "parameters"}) == CARD.model_dump(
        exclude={"stride", "radius", "sha256", "parameters"}
    )
    assert card.stride == 4
    assert card.radius is not None
    assert 4 < card.radius < 24
    assert card.parameters == sum(p.numel() for p in network().parameters())
    assert not loaded.module.training
    x = torch.randn(1, 2, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.module(x), network().eval()(x))


def test_save_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    module = network().train()
    package.save(module, CARD, tmp_path / "p")
    assert module.training


def test_start_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    card = CARD.model_copy(update={"config": {**CARD.config, "encoder_weights": "/nowhere/x.safetensors"}})
    assert "encoder_weights" not in package.save(network(), card, tmp_path / "p").config
    package.load(tmp_path / "p")


def test_weights_for_other_bands_are_named(folder: Path) -> None:
    """The first convolution of another number of bands, and a card that lists another number of them."""
    tensors = load_file(folder / "model.safetensors")
    first = next(k for k, v in tensors.items() if v.ndim == 4 and v.shape[1] == len(CARD.bands))
    replace_weights(folder, {**tensors, first: tensors[first].repeat(1, 2, 1, 1)})
    with pytest.raises(ModelError, match=rf"{first} is \(4, 4, 3, 3\), expected \(4, 2, 3, 3\)"):
        package.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i["properties"].pop("mlm:input"), "not a STAC item with the MLM extension"),
        (lambda i: i["properties"].update({"gsd": -1}), "gsd"),
        (lambda i: i["properties"].update({"geoml:architecture": "segnett"}), "did you mean 'segnet'"),
        (lambda i: i["properties"]["mlm:hyperparameters"].update({"channel": [1]}), "did you mean 'channels'"),
        (lambda i: i["properties"]["mlm:hyperparameters"].update({"bands": 3}), "config has bands 3"),
        (lambda i: i["properties"]["mlm:hyperparameters"].update({"classes": 3}), "config has classes 3"),
        (lambda i: i["assets"]["model"].update({"href": "../other/model.safetensors"}), "beside the card"),
        (lambda i: i["assets"]["model"].update({"href": "gone.safetensors"}), "does not exist"),
        (lambda i: i["properties"]["mlm:input"][0]["value_scaling"][0].update({"type": "clip"}), "value_scaling"),
    ],
)
def test_a_wrong_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(folder, change)
    with pytest.raises(ModelError, match=message):
        package.load(folder)
