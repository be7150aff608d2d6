"""Cards and weights are read once: each file here is gone, or another one, when it is opened a second time."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geoml import testing
from geoml.engine.packages import cards, exported, folder, package, weights
from geoml.engine.train.transfer import transfer
from geoml.errors import ModelError
from geoml.geolocation.locate import locator
from geoml.settings import settings

BANDS = ("red", "nir")


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """After the first opening a file of the folder holds another text; the names that were opened."""

    def watch(folder: Path) -> list[str]:
        opened: list[str] = []
        original = Path.open

        def open_(self: Path, *args: Any, **kwargs: Any) -> Any:
            if self.parent != folder:
                return original(self, *args, **kwargs)
            opened.append(self.name)
            with original(self, "rb") as file:
                content = file.read()
            with original(self, "wb") as file:
                file.write(b"replaced")
            return io.BytesIO(content)

        monkeypatch.setattr(Path, "open", open_)
        return opened

    return watch


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


def test_a_package_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    made = testing.constant_model(tmp_path, BANDS, ("a", "b"), 1)
    opened = once(tmp_path)
    assert package.load(tmp_path).card == made
    assert sorted(opened) == ["model.json", "model.safetensors"]
    with pytest.raises(ModelError, match="not a model card"):
        package.load(tmp_path)


def test_an_exported_program_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    card = testing.card("mine", BANDS, ("a", "b"), architecture="exported", chip_size=8)
    program = torch.export.export(Twice().eval(), (torch.zeros(1, 2, 8, 8),))
    exported.save_exported(program, card, tmp_path)
    opened = once(tmp_path)
    package.load(tmp_path)
    assert sorted(opened) == ["model.json", "model.pt2"]


def test_a_package_to_start_from_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    made = testing.constant_model(tmp_path, BANDS, ("a", "b"), 1)
    opened = once(tmp_path)
    assert transfer(package.build(made), str(tmp_path), ["nir", "red"])["share"] == 1.0
    assert sorted(opened) == ["model.json", "model.safetensors"]


def test_a_card_of_any_kind_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    made = testing.constant_model(tmp_path, BANDS, ("a", "b"), 1)
    opened = once(tmp_path)
    assert cards.read(tmp_path) == made
    assert opened == ["model.json"]


def test_a_locator_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    folder = tmp_path / "locator"
    shutil.copytree(settings().catalogs / "models/world-overhead", folder)
    made = locator.read_card(folder)
    opened = once(folder)
    assert locator.load(folder).card == made
    assert sorted(opened) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("text", [b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b" " * (folder.MAX_CARD + 1)])
def test_a_card_that_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(ModelError, match="not a model card"):
        folder.read_item(tmp_path / "model.json")


def test_weights_of_another_checksum_and_none(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"1")
    with pytest.raises(ModelError, match="damaged, sha256 is 6b86b273ff34…, the card says nothing"):
        weights.read_weights(tmp_path / "w", "")
    with pytest.raises(ModelError, match="not readable"):
        weights.read_weights(tmp_path / "none", "")
    head = json.dumps({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}).encode()
    for content in (b"", len(head).to_bytes(8, "little") + head + b"1"):
        with pytest.raises(ModelError, match="damaged or no safetensors"):
            weights.read_tensors(content, Path("m.safetensors"))
