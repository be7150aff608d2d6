"""Which back end is taken, and what a run says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from geoml import testing
from geoml.backends import onnx, openvino
from geoml.engine.inference.choice import ChosenBackend, asked_of_machine, choose_backend
from geoml.engine.packages import package
from geoml.engine.packages.package import Package
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.io.software import MADE_BY

CARD = testing.card("made", ["red", "nir"], ["low", "high"], stride=8)
Facts = Mapping[str, Any]


@pytest.fixture(scope="module")
def made() -> Package:
    torch.manual_seed(0)
    config = {"encoder": "resnet18", "depth": 3, "decoder_channels": (8, 8, 8)}
    card = CARD.model_copy(update={"config": config})
    return Package(package.build(card).eval(), card, Path())


@pytest.fixture
def choose(machine: Callable[..., None], made: Package, tmp_path: Path) -> Callable[..., ChosenBackend]:
    def run(**settings: object) -> ChosenBackend:
        machine(**{"scratch": tmp_path, "device": "cpu", "precision": "fp32", **settings})
        return choose_backend(made, 64, asked_of_machine())

    return run


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | str]:
    """Speeds, or why a proof fails, in place of proofs, which take seconds."""
    speeds: dict[str, float | str] = {"openvino": 1.5, "onnx": 1.2}
    for file in (openvino, onnx):

        def prove(self: Any, size: int) -> Facts:
            found = speeds[self.name]
            if isinstance(found, str):
                raise ModelError(found)
            return {"speed": found}

        monkeypatch.setattr(file.Backend, "prove", prove)
    return speeds


def facts(chosen: ChosenBackend) -> Any:
    return chosen.properties[MADE_BY]


def test_torch_is_the_default(choose: Callable[..., ChosenBackend]) -> None:
    chosen = choose()
    assert facts(chosen) == {"name": "torch", "precision": "fp32", "reason": "by the setting", "proof": None}
    assert "processing:software" not in chosen.properties  # that of any block


def test_the_fastest_is_taken_and_says_what_the_others_came_to(
    choose: Callable[..., ChosenBackend], proofs: dict[str, float | str]
) -> None:
    chosen = choose(backend="auto")
    assert chosen.backend.name == "openvino"
    assert facts(chosen)["reason"] == "auto; onnx: 1.20 x torch; openvino: 1.50 x torch"
    assert facts(chosen)["proof"] == {"speed": 1.5}
    assert "openvino" in chosen.properties["processing:software"]  # type: ignore[operator]
    proofs["onnx"] = 1.6
    assert choose(backend="auto").backend.name == "onnx"


def test_what_fails_its_proof_or_is_no_faster_leaves_torch_with_the_reason(
    choose: Callable[..., ChosenBackend], proofs: dict[str, float | str], caplog: pytest.LogCaptureFixture
) -> None:
    proofs |= {"openvino": "61 % of the classes are those of torch", "onnx": 1.01}
    chosen = choose(backend="auto")
    assert facts(chosen)["name"] == "torch"
    assert "61 % of the classes" in facts(chosen)["reason"]
    assert "onnx: 1.01 x torch" in facts(chosen)["reason"]
    assert caplog.text.count("61 % of the classes") == 1


def test_one_that_is_not_installed_leaves_torch_and_when_named_says_what_to_install(
    choose: Callable[..., ChosenBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (openvino, onnx):
        monkeypatch.setattr(file, "find_spec", lambda name: None)
    assert "not installed" in facts(choose(backend="auto"))["reason"]
    for name in ("openvino", "onnx"):
        with pytest.raises(MissingExtra, match=rf"pip install 'geoml\[{name}\]'"):
            choose(backend=name)


def test_a_named_one_that_fails_its_proof_is_an_error(
    choose: Callable[..., ChosenBackend], proofs: dict[str, float | str]
) -> None:
    proofs["onnx"] = "61 % of the classes are those of torch"
    with pytest.raises(ModelError, match=r"61 % of the classes .*GEOML_BACKEND=torch"):
        choose(backend="onnx")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "openvin"}, "did you mean 'openvino'"),
        ({"backend": "openvino", "device": "mps"}, "GEOML_DEVICE: 'mps'"),
        ({"backend": "onnx", "precision": "bf16"}, "onnx computes in fp32"),
    ],
)
def test_what_a_setting_cannot_be_is_named(
    choose: Callable[..., ChosenBackend], settings: dict[str, str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        choose(**settings)


def test_in_bf16_only_what_computes_in_it_is_tried(
    choose: Callable[..., ChosenBackend], proofs: dict[str, float | str]
) -> None:
    chosen = choose(backend="auto", precision="bf16")
    assert facts(chosen)["name"] == "openvino"
    assert facts(chosen)["precision"] == "bf16"
    assert "onnx computes in fp32" in facts(chosen)["reason"]
