"""What every class of card promises; a new file in a folder ``cards`` and a shipped package get these tests too."""

from __future__ import annotations

import ast
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pystac
import pytest

from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.cards.point_classes import PointCard, PointClass
from geoml.engine.packages import cards
from geoml.errors import ModelError
from geoml.forecasting.cards.forecast import CardPlace, ForecastCard
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.io.cards.kinds import card_of, kinds
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.cards.profile import BandProfile
from geoml.io.tables.table_source import TableLayout, TableVariable

ROOT = Path(__file__).parents[2]
SHIPPED = {p.parent.name: p for p in sorted((ROOT / "catalogs" / "models").glob("*/model.json"))}
SHIPPED["from before"] = ROOT / "tests" / "e2e" / "before" / "package" / "model.json"
KINDS = {"maps": MapCard, **kinds()}

every_package = pytest.mark.parametrize("name", SHIPPED)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def item_of(name: str) -> dict[str, Any]:
    return cards.read_item(SHIPPED[name])


def card(name: str) -> ModelCard:
    return cards.read_any(SHIPPED[name].parent)


MADE: dict[type[ModelCard], ModelCard] = {
    EncoderCard: EncoderCard(
        name="made",
        architecture="presto",
        config={"ndvi": [0, 1]},
        bands=(Band(name="red", unit="reflectance"), Band(name="nir", unit="reflectance")),
        level="L1C",
        gsd=10.0,
        steps=24,
        width=128,
        profile=BandProfile(center=(-1.0, -0.5), factor=(4.0, 0.5, 3.0), low=1e-3, high=2.0, pixels=9, source="made"),
    ),
    ForecastCard: ForecastCard(
        name="made",
        architecture="graph",
        table=TableLayout(
            step="PT1H", zone="+08:00", variables=(TableVariable(column="PM2.5", unit="ug m-3", transform="log1p"),)
        ),
        places=(CardPlace(id="a", lon=116.0, lat=40.0), CardPlace(id="b", lon=116.5, lat=39.5)),
        bbox=(116.0, 39.5, 116.5, 40.0),
        history=24,
        leads=("PT1H", "PT3H"),
        levels=(0.1, 0.5, 0.9),
        trained=("2013-03-01T00:00:00+00:00", "2015-01-01T00:00:00+00:00"),
        times_sha256="ab" * 32,
    ),
    PointCard: PointCard(
        name="made",
        architecture="pointnet2",
        config={"voxel": 0.5},
        voxel=0.5,
        radius=56.75,
        classes=(PointClass(value=2, name="ground"), PointClass(value=6, name="building")),
    ),
}
"""Of kinds that are not shipped."""


def example(kind: type[ModelCard]) -> dict[str, Any]:
    """The item of a shipped package whose card is of this class, or of a made one."""
    if kind in MADE:
        item: dict[str, Any] = json.loads(json.dumps(mlm.to_item(MADE[kind], size=10).to_dict()))
        return item
    return next(item for item in map(item_of, SHIPPED) if card_of(item) is kind)


@every_package
def test_a_card_is_written_in_the_bytes_that_it_was_read_from(name: str, tmp_path: Path) -> None:
    found, path = card(name), SHIPPED[name]
    (tmp_path / found.weights).symlink_to(path.with_name(found.weights))
    cards.write(found, tmp_path)
    assert (tmp_path / cards.CARD).read_bytes() == path.read_bytes()


@every_package
def test_an_item_is_valid_by_the_schemas(name: str, stac_schemas: ModuleType) -> None:
    assert mlm.MLM in stac_schemas.validate(item_of(name))


@every_kind
def test_the_item_of_an_example_is_valid_and_makes_the_card_again(
    kind: type[ModelCard], stac_schemas: ModuleType
) -> None:
    item = example(kind)
    assert mlm.MLM in stac_schemas.validate(item)
    card = mlm.from_item(item, kind)
    assert mlm.from_item(mlm.to_item(card, size=10), kind) == card


@every_package
def test_a_card_goes_there_and_back(name: str) -> None:
    found = card(name)
    item = mlm.to_item(found, size=10)
    assert mlm.from_item(item, type(found)) == found
    assert mlm.from_item(pystac.Item.from_dict(json.loads(json.dumps(item.to_dict()))), type(found)) == found
    assert type(found).model_validate_json(found.model_dump_json()) == found


@every_package
def test_a_card_says_what_a_table_shows(name: str) -> None:
    found = card(name)
    assert len(found.row()) == 4
    assert found.row()[0].startswith(found.task)
    assert found.footprint().bounds == pytest.approx(found.bbox)


@every_kind
def test_another_kind_and_a_name_that_is_not_known_are_refused(kind: type[ModelCard]) -> None:
    item = example(kind)
    for other in set(KINDS.values()) - {kind}:
        with pytest.raises(ModelError, match=f"here: the card of {kind.what}, not the card of {other.what}"):
            mlm.from_item(item, other, "here")
    item["properties"]["geoml:strange"] = 1
    with pytest.raises(ModelError, match=r"here.*unknown geoml:strange; expected one of"):
        mlm.from_item(item, kind, "here")


@every_kind
def test_a_field_that_is_not_known_is_refused(kind: type[ModelCard]) -> None:
    with pytest.raises(ValueError, match="strange"):
        kind.model_validate({**mlm.from_item(example(kind), kind).model_dump(), "strange": 1})


@every_kind
def test_whatever_stands_in_an_item_makes_a_card_or_a_model_error(kind: type[ModelCard]) -> None:
    made = broken = 0
    for changed in damaged(example(kind)):
        try:
            mlm.from_item(changed, card_of(changed))
            made += 1
        except ModelError:
            broken += 1
    assert made > 10  # what no card reads: links, geometry, the name of the framework
    assert broken > 40


def damaged(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Copies of an item with one value, down to the third level of mappings, gone or of another type."""
    for path in places(item, 3):
        for value in (None, [], {}, "x", -1, 1e999, True):
            changed = copy.deepcopy(item)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if value is None:
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
            yield changed


def places(value: dict[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, dict) and depth > 1 and key not in ("geometry", "geoml:training", "geoml:scores"):
            yield from ((key, *rest) for rest in places(inner, depth - 1))


def test_no_public_class_of_cards_and_packages_shares_its_name() -> None:
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "geoml").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(ROOT / "geoml").as_posix())
    ours = {name: files for name, files in found.items() if any("cards/" in f or "/packages/" in f for f in files)}
    assert len(ours) > 10
    assert {name: files for name, files in ours.items() if len(files) > 1} == {}
