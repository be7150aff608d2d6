"""The backbone of a locator by the back ends: the same answers, what ran it in ``run.json``, torch by default."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoml.backends import onnx, openvino
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.locate.locate import geolocate
from geoml.geolocation.locate.locator import Locator
from geoml.testing import pictures as made
from tests import geolocation_rows


@pytest.fixture
def loaded(machine: Callable[..., None], overhead: Locator, tmp_path: Path) -> Callable[..., Locator]:
    """The locator, loaded anew on a machine with these settings."""

    def load(**settings: object) -> Locator:
        machine(**{"scratch": tmp_path / "scratch", "device": "cpu", "precision": "fp32", **settings})
        assert overhead.path
        return locator.load(overhead.path)

    return load


def pixels(count: int) -> np.ndarray:
    return np.stack([made.picture(k % 6, k, (32, 32)) for k in range(count)])


def test_torch_is_the_default_and_gives_the_bytes_of_torch_alone(loaded: Callable[..., Locator]) -> None:
    found = loaded().extractor
    alone = Extractor(found.backbone, 32)
    assert (found(pixels(9)) == alone(pixels(9))).all()
    assert found.tag == alone.tag
    assert found.made_by == {"name": "torch", "precision": "fp32", "reason": "by the setting", "proof": None}


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_a_run_says_what_ran_the_backbone_and_answers_the_same(
    loaded: Callable[..., Locator], name: str, tmp_path: Path
) -> None:
    source, out = made.folder(tmp_path / "in", 8), tmp_path / "out.parquet"
    before = geolocate([source], loaded(), out)
    expected = geolocation_rows.read(out)
    assert before["backend"]["name"] == "torch"
    told = geolocate([source], loaded(backend=name), out)
    assert told == json.loads((tmp_path / "out.parquet.run" / "run.json").read_text())
    assert told["backend"]["name"] == name
    assert told["backend"]["proof"]["distance"] < 1e-3
    assert told["backbone"] == f"{before['backbone']}-{name}"
    assert told["versions"].keys() - before["versions"].keys() == {*loaded(backend=name).extractor.backend.packages}
    assert told["computed"] == 8, "rows that another back end made are none of this one"
    for a, b in zip(expected, geolocation_rows.read(out), strict=True):
        assert (a["image_id"], a["status"]) == (b["image_id"], b["status"])
        assert a["p_within_200km"] == pytest.approx(b["p_within_200km"], abs=1e-4)
        assert (a["lon"], a["lat"]) == pytest.approx((b["lon"], b["lat"]), abs=1e-3)
    whole = out.read_bytes()
    again = geolocate([source], loaded(backend=name), out)
    assert again["computed"] == 0
    assert again["backend"] == told["backend"], "the proof is that of the program that was kept"
    assert out.read_bytes() == whole


def test_auto_falls_back_with_the_reason_and_a_named_one_is_an_error(
    loaded: Callable[..., Locator], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = openvino.Backend.load

    def wrong(self: Any, *given: Any) -> Any:
        run = load(self, *given)
        return lambda inputs: run(inputs).flip(1)  # features in another order

    monkeypatch.setattr(openvino.Backend, "load", wrong)
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    found = loaded(backend="auto").extractor
    assert found.made_by["name"] == "torch"
    assert "of the distance of two images" in found.made_by["reason"]
    assert "pip install 'geoml[onnx]'" in found.made_by["reason"]
    assert caplog.text.count("of the distance of two images") == 1
    assert (found(pixels(3)) == loaded().extractor(pixels(3))).all()
    with pytest.raises(ModelError, match="of the distance of two images"):
        _ = loaded(backend="openvino").extractor
    with pytest.raises(MissingExtra, match=r"geoml\[onnx\]"):
        _ = loaded(backend="onnx").extractor


def test_what_a_locator_has_no_program_for_is_named(loaded: Callable[..., Locator]) -> None:
    with pytest.raises(InputError, match=r"'int8', and .* has no such program"):
        _ = loaded(backend="onnx", precision="int8").extractor
    with pytest.raises(InputError, match="did you mean 'openvino'"):
        _ = loaded(backend="openvin").extractor
