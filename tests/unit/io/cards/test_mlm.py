"""Model cards as STAC MLM items, there and back."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.cube.domain import fit
from geoml.errors import ModelError
from geoml.io.cards import mlm
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

finite = st.floats(-1e6, 1e6)
words = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
json_values = st.recursive(st.none() | st.booleans() | finite | words, lambda s: st.lists(s, max_size=3), max_leaves=5)
bands = st.builds(Band, name=words, mean=finite, std=st.floats(1e-6, 1e6))
cards = st.builds(
    MapCard,
    name=words,
    version=words,
    description=st.text(max_size=20),
    architecture=st.sampled_from(["unet", "segnet"]),
    config=st.dictionaries(words, json_values, max_size=3),
    task=st.sampled_from(["segmentation", "regression"]),
    bands=st.lists(st.builds(Band, name=words, mean=finite, std=st.floats(1e-6, 1e6)), min_size=1, max_size=4).map(
        tuple
    ),
    gsd=st.floats(0.01, 1000),
    anchor=st.sampled_from([0.0, 0.5]),
    dates=st.integers(1, 3),
    chip_size=st.integers(1, 4096),
    overlap=st.integers(0, 512),
    window=st.sampled_from(["hann", "triangle", "flat"]),
    stride=st.integers(1, 64),
    radius=st.none() | st.integers(0, 500),
    classes=st.lists(
        st.builds(
            ClassInfo, value=st.integers(0, 254), name=words, color=st.from_regex(r"#[0-9a-fA-F]{6}", fullmatch=True)
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    nodata=st.integers(0, 255),
    sha256=st.just("") | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    parameters=st.integers(0, 10**9),
    training=st.dictionaries(words, json_values, max_size=3),
    scores=st.dictionaries(words, json_values, max_size=3),
    bbox=st.just((-180.0, -90.0, 180.0, 90.0)) | st.just((170.0, -20.0, -170.0, -10.0)),
)


@settings(deadline=None)  # the first call imports much
@given(cards)
def test_there_and_back(card: MapCard) -> None:
    item = mlm.to_item(card, size=10)
    assert mlm.from_item(item, MapCard) == card
    assert mlm.from_item(pystac.Item.from_dict(item.to_dict()), MapCard) == card


RECORD = {
    "radius_before": 60, "core": 1024, "tolerance": 0.001, "changed": 0.0002, "pixels": 9, "recipe": "r",
    "precision": "fp32", "tried": [{"radius": 16, "changed": 0.0002}],
}  # fmt: skip


def test_a_radius_by_tolerance_travels_and_has_to_fit_the_lattice() -> None:
    short = card(radius=16, stride=8, short_radius=RECORD)
    item = mlm.to_item(short).to_dict()
    assert mlm.from_item(item, MapCard) == short
    assert "geoml:short_radius" not in mlm.to_item(card(radius=16, stride=8)).properties
    for changes in ({"radius": 60}, {"radius": None}, {"radius": 0}, {"radius": 12}, {"stride": 7}):
        wrong = {**item, "properties": {**item["properties"], **{f"geoml:{k}": v for k, v in changes.items()}}}
        with pytest.raises(ModelError, match="short_radius"):
            mlm.from_item(wrong, MapCard)


def card(**changes: Any) -> MapCard:
    fields: dict[str, Any] = {
        "name": "water",
        "architecture": "unet",
        "config": {"bands": 2, "classes": 2},
        "bands": (Band(name="vv"), Band(name="vh")),
        "gsd": 10.0,
        "chip_size": 256,
        "classes": (
            ClassInfo(value=0, name="land", color="#aabbcc"),
            ClassInfo(value=1, name="water", color="#0000ff"),
        ),
        "sha256": "0" * 64,
    }
    return MapCard(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"dates": 2}, {"weights": "model.pt2"}, {"bbox": (170.0, -20.0, -170.0, -10.0)}, {"config": {}}]
)
def test_is_valid_against_the_schemas(stac_schemas: ModuleType, changes: dict[str, Any]) -> None:
    used = stac_schemas.validate(mlm.to_item(card(**changes), size=5).to_dict())
    assert mlm.MLM in used


def test_says_to_others_what_they_need() -> None:
    item = mlm.to_item(card(training={"init": "imagenet"}), size=5).to_dict()
    given, result = item["properties"]["mlm:input"][0], item["properties"]["mlm:output"][0]
    assert item["properties"]["mlm:tasks"] == ["semantic-segmentation"]
    assert item["properties"]["mlm:pretrained_source"] == "imagenet"
    assert given["input"]["shape"] == [-1, 2, 256, 256]
    assert [c["color_hint"] for c in result["classification:classes"]] == ["aabbcc", "0000ff"]
    assert item["assets"]["model"]["file:checksum"] == "1220" + "0" * 64
    assert item["assets"]["model"]["mlm:artifact_type"] == "safetensors.torch.save_file"


def test_reads_items_of_others() -> None:
    item = mlm.to_item(card(weights="model.pt2"), size=5).to_dict()
    properties = item["properties"]
    for name in [n for n in properties if n.startswith("geoml:")]:
        del properties[name]
    properties["mlm:input"][0]["bands"] = [{"name": "vv"}, {"name": "vh"}]
    for scaling, mean, std in [
        ([{"type": "min-max", "minimum": 10, "maximum": 30}], 10.0, 20.0),
        ([{"type": "scale", "value": 0.5}], 0.0, 2.0),
        ([{"type": "offset", "value": 3}], -3.0, 1.0),
        (None, 0.0, 1.0),
    ]:
        properties["mlm:input"][0]["value_scaling"] = scaling
        found = mlm.from_item(item, MapCard)
        assert [(b.mean, b.std) for b in found.bands] == [(mean, std)] * 2
        assert (found.architecture, found.task, found.radius) == ("exported", "segmentation", None)


@pytest.mark.parametrize("value", [{}, [], None, 3, {"properties": {}}, {"properties": None, "assets": {}}])
def test_anything_else_is_a_model_error(value: Any) -> None:
    with pytest.raises(ModelError, match="here"):
        mlm.from_item(value, MapCard, "here")


PIXELS = np.random.default_rng(0).normal(size=(500, 2))


def test_what_it_saw_in_training_goes_there_and_back(stac_schemas: ModuleType) -> None:
    made = card(domain=fit(PIXELS, PIXELS, months=(5, 6), platforms=("landsat-8",)))
    item = json.loads(json.dumps(mlm.to_item(made, size=5).to_dict()))
    assert mlm.from_item(item, MapCard) == made
    assert stac_schemas.validate(item)


@pytest.mark.parametrize(
    "changes",
    [
        {"center": [0.0]},
        {"center": [0.0, 0.0, 0.0]},
        {"spread": [1.0, 0.0]},
        {"spread": [1.0, "wide"]},
        {"factors": [[1.0]] * 4},
        {"factors": []},
        {"shifts": [[0.0, 0.0]]},
        {"constants": []},
        {"quantiles": [[0.0], [0.0]]},
        {"middle": -1e9},
        {"threshold": float("nan")},
        {"level": 2},
        {"more": 1},
    ],
)
def test_a_record_that_is_none_is_a_model_error(changes: dict[str, Any]) -> None:
    item = mlm.to_item(card(domain=fit(PIXELS, PIXELS)), size=5).to_dict()
    item["properties"]["geoml:domain"] |= changes
    with pytest.raises(ModelError, match="domain"):
        mlm.from_item(item, MapCard)
