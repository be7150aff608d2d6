"""A package with smaller weights: what is rounded and by how much, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from geoml.engine.packages import cards, package, weights
from geoml.engine.packages.shrink import shrink
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import MapCard
from geoml.io.stores import store
from geoml.nn.weights import precision
from geoml.nn.weights.transfer import start_from
from tests.unit.engine.packages.tiny_water import CARD, network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package.save(network(), CARD, tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.parametrize("int8", [False, True])
def test_matrices_are_rounded_and_nothing_else(folder: Path, tmp_path: Path, int8: bool) -> None:
    card = shrink(folder, tmp_path / "small", int8)
    loaded = package.load(tmp_path / "small")
    assert loaded.card == card
    before = package.load(folder)
    changed = {"sha256": store.sha256(tmp_path / "small" / card.weights), "stored": "int8" if int8 else "float16"}
    assert card == before.card.model_copy(update=changed)
    rounded = 0
    for name, old in before.module.state_dict().items():
        new = loaded.module.state_dict()[name]
        assert new.dtype == old.dtype
        if old.ndim < 2:
            assert torch.equal(new, old), name
        elif int8 and old[0].numel() >= precision.ROW:
            step = old.abs().amax(tuple(range(1, old.ndim)), keepdim=True) / 127
            assert ((new - old).abs() <= step * 0.5001).all(), name
            rounded += 1
        else:
            assert torch.equal(new, old.half().float()), name
            rounded += not torch.equal(new, old)
    assert rounded
    x = torch.randn(1, len(CARD.bands), 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = before.module(x), loaded.module(x)
    assert 0 < (a - b).abs().mean() < (0.05 if int8 else 0.005) * a.abs().mean()


def test_a_matrix_takes_half_or_a_quarter_of_its_bytes() -> None:
    state = {"a.weight": torch.randn(64, 256), "b.weight": torch.randn(64, 9), "b.bias": torch.randn(64)}
    half, eighth = (precision.stored(state, True, int8) for int8 in (False, True))
    assert {k: v.dtype for k, v in half.items()} == {
        "a.weight": torch.float16, "b.weight": torch.float16, "b.bias": torch.float32,
    }  # fmt: skip
    assert eighth["a.weight"].dtype == torch.int8
    assert eighth["a.weight.scale"].shape == (64, 1)
    assert eighth["b.weight"].dtype == torch.float16
    assert {k: v.shape for k, v in precision.unpacked(eighth, "here").items()} == {k: v.shape for k, v in state.items()}


def test_the_licence_stays_with_the_weights(tmp_path: Path) -> None:
    shrink("presto", tmp_path / "small")
    assert (tmp_path / "small" / "LICENCE.md").read_bytes() == (cards.find("presto") / "LICENCE.md").read_bytes()


def test_weights_that_are_written_in_full_say_so(folder: Path, tmp_path: Path) -> None:
    shrink(folder, tmp_path / "small")
    small = package.load(tmp_path / "small")
    assert small.card.stored == "float16"
    assert package.save(small.module, small.card, tmp_path / "again").stored == "float32"


@pytest.mark.parametrize("int8", [False, True])
def test_another_network_starts_from_the_rounded_weights(folder: Path, tmp_path: Path, int8: bool) -> None:
    small = shrink(folder, tmp_path / "small", int8)
    module = network()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    copied = start_from(module, tmp_path / "small" / small.weights)
    assert set(copied) == set(module.state_dict())
    truth = package.load(tmp_path / "small").module.state_dict()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, truth[name]), name


def test_a_scale_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    shrink(folder, tmp_path / "small", True)
    tensors = load_file(tmp_path / "small" / "model.safetensors")
    name = next(k for k in tensors if k.endswith(precision.SCALE))
    tensors[name] = torch.ones(1, 7)
    save_file(tensors, tmp_path / "small" / "model.safetensors")
    with pytest.raises(ModelError, match=r"scale is \(1, 7\); expected a number for each row"):
        weights.read_tensors((tmp_path / "small" / "model.safetensors").read_bytes(), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"scale is \(1, 7\); expected a number for each row"):
        start_from(network(), tmp_path / "small" / "model.safetensors")


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    module = network()
    with torch.no_grad():
        next(p for p in module.parameters() if p.ndim > 1).mul_(1e9)
    package.save(module, CARD, tmp_path / "p")
    with pytest.raises(ModelError, match="not finite"):
        shrink(tmp_path / "p", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_what_is_small_or_prepared_is_refused(folder: Path, tmp_path: Path) -> None:
    shrink(folder, tmp_path / "small")
    with pytest.raises(InputError, match="stored as float16"):
        shrink(tmp_path / "small", tmp_path / "smaller")
    cards.write(cards.read(folder, MapCard).model_copy(update={"weights": "model.pt2"}), move(folder))
    with pytest.raises(InputError, match="exported program"):
        shrink(folder, tmp_path / "smaller")


def move(folder: Path) -> Path:
    """The weights under the name of a program; what is in them does not matter."""
    (folder / "model.safetensors").rename(folder / "model.pt2")
    return folder
