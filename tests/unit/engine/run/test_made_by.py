"""A run says what ran its network, and warns of several."""

from __future__ import annotations

from geoml.engine.run.made_by import BEFORE, count_backends
from geoml.io.software import count_versions


def facts(name: str, precision: str = "fp32") -> dict[str, object]:
    return {"name": name, "precision": precision, "reason": "by the setting", "proof": None}


def test_one_for_all_is_said_as_it_is() -> None:
    assert count_backends([facts("onnx"), facts("onnx")]) == (facts("onnx"), "")


def test_blocks_from_before_were_made_by_torch() -> None:
    assert count_backends([None]) == (BEFORE, "")
    assert count_backends([]) == (BEFORE, "")
    assert count_backends([None, facts("torch")]) == (facts("torch"), "")
    assert count_backends([None, facts("onnx")])[1] != ""


def test_several_are_counted_and_warned_of() -> None:
    both = [facts("torch"), facts("openvino"), facts("openvino"), facts("torch", "bf16")]
    found, warning = count_backends(both)
    assert found == {**facts("openvino"), "blocks": {"torch fp32": 1, "openvino fp32": 2, "torch bf16": 1}}
    assert "2 by openvino fp32, 1 by torch fp32, 1 by torch bf16" in warning


def test_libraries_of_back_ends_are_among_the_versions_where_any_block_has_them() -> None:
    plain, other = {"geoml": "1", "torch": "2"}, {"geoml": "1", "torch": "2", "openvino": "3"}
    assert "openvino" not in count_versions([plain])
    assert count_versions([plain, other])["openvino"] == {"3": 1, "none": 1}
