"""Regions, recipes, catalogs and cards that mean harm or were never checked: an error that names the field."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoml.data.recipe import TrainRecipe
from geoml.errors import InputError, ModelError
from geoml.io.cards import mlm
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.catalog import CatalogFile
from geoml.io.tables.regions import load_region
from geoml.recipe import PredictRecipe, load_yaml, parse

# ---- regions


def polygon(*rings: object) -> str:
    return json.dumps({"type": "Polygon", "coordinates": rings})


def test_a_million_vertices_are_refused_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    path.write_text(polygon([[0, 0]]).replace("[0, 0]", "[10.25, 50.5], " * 1_000_000 + "[10.25, 50.5]"))
    started = time.process_time()  # of this process: a busy machine is not its fault
    with pytest.raises(InputError, match="1000001 vertices; expected at most 100000, simplify it first"):
        load_region(str(path))
    assert time.process_time() - started < 20
    turn = np.linspace(0, 2 * np.pi, 99_999)
    ring = np.column_stack([10 + np.cos(turn), 50 + np.sin(turn)]).tolist()
    path.write_text(polygon([*ring[:-1], ring[0]]))
    assert load_region(str(path)).area == pytest.approx(np.pi, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (polygon([[0, 0], [1, 0], [float("nan"), 1], [0, 0]]), "region"),
        (polygon([[0, 0], [1, 0], [float("inf"), 1], [0, 0]]), "region"),
        (polygon([[0, 0], [1, 0], [1, 1], [0, 0]]).replace("[1, 1]", "[1e999, 1]"), "region"),
        (polygon([[0, 0], [1, 0], [1e300, 1], [0, 0]]), "region"),
        (polygon([[0, 0], [1, 0], [1, 91], [0, 0]]), "out of range"),
        (polygon([[0, 0], [1, 0], ["1", None], [0, 0]]), "region"),
        (polygon([[0, 0], [1, 0]]), "region"),
        (polygon([]), "region"),
        (polygon(), "region"),
        ('{"type": "Polygon", "coordinates": ' + "[" * 10_000 + "]" * 10_000 + "}", "cannot be read"),
        ('{"type": "FeatureCollection", "features": [1, null, "x"]}', "cannot be read"),
        ('{"type": "Feature", "geometry": {"type": "Bomb"}}', "cannot be read"),
        ("\x00\x01\x02", "cannot be read"),
        ("[" * 10_000_000, "cannot be read"),
    ],
    ids=range(14),
)
def test_regions_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.geojson").write_text(text)
    started = time.monotonic()
    with pytest.raises(InputError, match=said) as caught:
        load_region(str(tmp_path / "r.geojson"))
    assert "region" in str(caught.value)
    assert time.monotonic() - started < 5


# ---- recipes, catalogs, cards

LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch PLACE']",
        "model: !!python/object/new:os.system ['touch PLACE']",
        "model: !!python/name:os.system",
        "!!python/module:os",
        "model: !<tag:yaml.org,2002:python/object/apply:subprocess.run> [[touch, PLACE]]",
        "- a list",
        "a: [",
        "\x00",
        "a: &a [*a]\n<<: 3",
    ],
)
def test_yaml_builds_no_objects(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text.replace("PLACE", str(tmp_path / "exploded")))
    with pytest.raises(InputError, match=r"r\.yaml"):
        parse(PredictRecipe, load_yaml(tmp_path / "r.yaml"), "r.yaml")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("kind", [PredictRecipe, TrainRecipe, CatalogFile])
def test_a_billion_laughs_and_deep_nesting(tmp_path: Path, kind: Any) -> None:
    started = time.monotonic()
    for text in (LAUGHS, f"model: {'[' * 1500}{']' * 1500}", f"model: {'{a: ' * 1500}1{'}' * 1500}"):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(InputError, match=r"r\.yaml") as caught:
            parse(kind, load_yaml(tmp_path / "r.yaml"), "r.yaml")
        assert len(str(caught.value)) < 10_000
    assert time.monotonic() - started < 10


QUERY = {"catalog": "demo", "bbox": [0, 0, 1, 1], "datetime": ["2020"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modle": "x"}, "modle: Extra inputs"),
        ({"query": {**QUERY, "colection": "x"}}, r"query\.colection: Extra inputs"),
        ({"model": ["x"]}, "model: Input should be a valid string"),
        ({"min_area": float("inf")}, "min_area"),
        ({"simplify": float("nan")}, "simplify"),
        ({"__class__": "x"}, "__class__: Extra inputs"),
        ({"query": {**QUERY, "region": "r.json"}}, "bbox, region"),
    ],
)
def test_recipes_with_what_is_not_theirs(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse(PredictRecipe, {"model": "m", "query": QUERY, **change}, "r.yaml")


CARD = MapCard(
    name="m",
    architecture="unet",
    bands=({"name": "red"},),  # type: ignore[arg-type]
    gsd=10.0,
    chip_size=64,
    classes=({"value": 0, "name": "a", "color": "#000000"},),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"geoml:overlp": 3}, "unknown geoml:overlp"),
        ({"geoml:overlap": -1}, "overlap"),
        ({"geoml:nodata": 300}, "nodata"),
        ({"gsd": float("inf")}, "gsd"),
        ({"gsd": float("nan")}, "gsd"),
        ({"gsd": "ten"}, "gsd"),
        ({"mlm:input": []}, "not a STAC item with the MLM extension"),
        ({"mlm:input": "x"}, "not a STAC item with the MLM extension"),
    ],
)
def test_cards_with_what_is_not_theirs(change: dict[str, Any], said: str) -> None:
    value = mlm.to_item(CARD).to_dict()
    assert mlm.from_item(value, MapCard, "card").name == "m"
    value["properties"] |= change
    with pytest.raises(ModelError, match=f"card: .*{said}"):
        mlm.from_item(value, MapCard, "card")
    value = mlm.to_item(CARD).to_dict()
    value["properties"]["mlm:input"][0]["value_scaling"][0]["mean"] = float("nan")
    with pytest.raises(ModelError, match=r"bands\.0\.mean"):
        mlm.from_item(value, MapCard, "card")
