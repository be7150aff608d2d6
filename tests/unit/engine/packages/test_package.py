"""Model packages: what is written is what is read, and nothing damaged or executable gets in."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geoml.engine.packages import cards, package
from geoml.engine.packages import folder as folders
from geoml.errors import DataError, InputError, ModelError
from geoml.io.cards.card import Band, ClassInfo, ModelCard
from geoml.io.stores import store
from geoml.settings import Settings

CARD = ModelCard(
    name="tiny-water",
    architecture="segnet",
    config={"bands": 2, "classes": 2, "channels": [4, 4], "convolutions": [1, 1]},
    bands=(Band(name="vv", mean=-11.0, std=4.0), Band(name="vh", mean=-18.0, std=5.0)),
    gsd=10.0,
    chip_size=64,
    classes=(ClassInfo(value=0, name="land", color="#a0a000"), ClassInfo(value=7, name="water", color="#0000FF")),
    training={"seed": 3, "init": None},
    scores={"miou": 0.5},
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return package.build(CARD)


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


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    package.save(network(), CARD, tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_save_leaves_the_module_as_it_was(tmp_path: Path) -> None:
    module = network().train()
    package.save(module, CARD, tmp_path / "p")
    assert module.training


def test_start_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    card = CARD.model_copy(update={"config": {**CARD.config, "encoder_weights": "/nowhere/x.safetensors"}})
    assert "encoder_weights" not in package.save(network(), card, tmp_path / "p").config
    package.load(tmp_path / "p")


def test_names_come_from_the_catalogs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogs = tmp_path / "catalogs"
    (catalogs / "models").mkdir(parents=True)
    folder.rename(catalogs / "models" / "tiny-water")
    (catalogs / "models" / "no-card").mkdir()
    monkeypatch.setattr(folders, "settings", lambda: Settings(catalogs=catalogs))
    assert folders.names() == ["tiny-water"]
    assert cards.read_card("tiny-water").name == "tiny-water"
    assert package.read("tiny-water")[1].name == "model.safetensors"
    with pytest.raises(InputError, match="did you mean 'tiny-water'"):
        package.load("tiny-watr")


def test_a_folder_without_a_card_and_a_lone_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no model\.json"):
        folders.find(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickle is never executed"):
        folders.find(tmp_path / "model.pth")


def test_a_flipped_byte_is_found(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged, sha256"):
        package.load(folder)


def test_a_truncated_file_and_a_missing_checksum_are_found(folder: Path) -> None:
    edit(folder, lambda item: item["assets"]["model"].pop("file:checksum"))
    with pytest.raises(ModelError, match="the card says nothing"):
        package.load(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    checksum = "1220" + store.sha256(folder / "model.safetensors")
    edit(folder, lambda item: item["assets"]["model"].update({"file:checksum": checksum}))
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        package.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pt2", "model.pkl"])
def test_a_pickle_is_never_executed(folder: Path, tmp_path: Path, name: str, trap: bytes) -> None:
    (folder / name).write_bytes(trap)
    checksum = "1220" + store.sha256(folder / name)
    edit(folder, lambda item: item["assets"]["model"].update({"href": name, "file:checksum": checksum}))
    with pytest.raises(ModelError):
        package.load(folder)
    edit(folder, lambda item: item["assets"]["model"].update({"mlm:artifact_type": "torch.export.save"}))
    edit(folder, lambda item: item["properties"].update({"geoml:architecture": "exported"}))
    with pytest.raises(ModelError):
        package.load(folder)
    assert not (tmp_path / "executed").exists()


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    replace_weights(folder, {k: v for k, v in tensors.items() if k != "head.bias"})
    with pytest.raises(ModelError, match=r"missing head\.bias"):
        package.load(folder)
    replace_weights(folder, {**tensors, "extra": torch.zeros(1)})
    with pytest.raises(ModelError, match="unexpected extra"):
        package.load(folder)
    replace_weights(folder, {**tensors, "head.bias": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"head\.bias is \(3,\), expected \(2,\)"):
        package.load(folder)
    replace_weights(folder, {**tensors, "head.bias": torch.tensor([float("nan"), 0.0])})
    with pytest.raises(ModelError, match=r"head\.bias is not finite"):
        package.load(folder)


def header(claimed: int, text: bytes = b"{}", data: bytes = b"") -> bytes:
    """A safetensors file by hand: length of the header, the header, the data."""
    return claimed.to_bytes(8, "little") + text + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> bytes:
    return json.dumps({"head.bias": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


FAR = entry([2**40], [0, 2**42])
OVER = entry([2], [0, 8])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header(2**62),
        header(200 * 2**20),
        header(len(FAR), FAR, bytes(64)),
        header(len(OVER), OVER, bytes(4)),
        header(2, b"[]"),
        header(3, b"{\xff}"),
        header(50_000, b"[" * 50_000),
        header(len(entry([2], [8, 0])), entry([2], [8, 0]), bytes(8)),
        header(len(entry([-2], [0, 8])), entry([-2], [0, 8]), bytes(8)),
        header(len(entry([2], [0, 8], "X9")), entry([2], [0, 8], "X9"), bytes(8)),
    ],
    ids=[
        "empty",
        "2**62",
        "200 MB",
        "terabytes",
        "beyond",
        "list",
        "no text",
        "deep",
        "backwards",
        "negative",
        "dtype",
    ],
)
def test_hostile_headers_are_refused_before_anything_is_allocated(folder: Path, content: bytes) -> None:
    """Their checksum fits, so safetensors itself has to refuse them; a header may promise what it likes."""
    (folder / "model.safetensors").write_bytes(content)
    checksum = "1220" + store.sha256(folder / "model.safetensors")
    edit(folder, lambda item: item["assets"]["model"].update({"file:checksum": checksum}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        package.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_weights_for_other_bands_are_named(folder: Path) -> None:
    """The first convolution of another number of bands, and a card that lists another number of them."""
    tensors = load_file(folder / "model.safetensors")
    first = next(k for k, v in tensors.items() if v.ndim == 4 and v.shape[1] == len(CARD.bands))
    replace_weights(folder, {**tensors, first: tensors[first].repeat(1, 2, 1, 1)})
    with pytest.raises(ModelError, match=rf"{first} is \(4, 4, 3, 3\), expected \(4, 2, 3, 3\)"):
        package.load(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/../../model.safetensors", "..", ""])
def test_weights_outside_the_package_are_refused(folder: Path, name: str) -> None:
    (folder.parent / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    edit(folder, lambda item: item["assets"]["model"].update({"href": name}))
    with pytest.raises(ModelError):
        package.load(folder)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    module = network()
    with torch.no_grad():
        next(module.parameters()).fill_(float("inf"))
    with pytest.raises(ModelError, match="not finite"):
        package.save(module, CARD, tmp_path / "p")
    assert not (tmp_path / "p").exists()


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
        (lambda i: i["assets"]["model"].update({"href": "gone.safetensors"}), "not there"),
        (lambda i: i["properties"]["mlm:input"][0]["value_scaling"][0].update({"type": "clip"}), "value_scaling"),
    ],
)
def test_a_wrong_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(folder, change)
    with pytest.raises(ModelError, match=message):
        package.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"', "[" * 100_000])
def test_a_card_that_is_no_item_is_refused(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json"):
        cards.read_card(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        package.save(network(), CARD, tmp_path / "file" / "p")
