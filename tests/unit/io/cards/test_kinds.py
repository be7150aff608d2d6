"""The class of a card is found by the name of a file; a wing that is added is found without an edit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import geoml
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages import cards
from geoml.errors import ModelError
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.geolocation.cards.locator import LocatorCard
from geoml.io.cards import mlm
from geoml.io.cards.kinds import card_of, kinds
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

ADDED = """
from typing import ClassVar

from geoml.io.cards.map_card import MapCard


class HeightCard(MapCard):
    what: ClassVar[str] = "a model of heights"
    own: ClassVar[tuple[str, ...]] = (*MapCard.own, "unit")
    task: str = "heights"
    unit: str = "m"


CARD = HeightCard
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of a card in a wing that lies elsewhere."""
    folder = tmp_path / "towers" / "cards"
    folder.mkdir(parents=True)
    for path in (folder / "__init__.py", folder.parent / "__init__.py"):
        path.touch()
    (folder / "heights.py").write_text(ADDED)
    monkeypatch.setattr(geoml, "__path__", [*geoml.__path__, str(tmp_path)])
    yield kinds()["heights"]
    for name in [n for n in sys.modules if n.startswith("geoml.towers")]:
        del sys.modules[name]


def test_a_task_of_its_own_gets_its_card(added: Any, tmp_path: Path) -> None:
    made = added(
        name="roofs", architecture="unet", bands=(Band(name="red"),), gsd=1, chip_size=64, unit="ft",
        classes=(ClassInfo(value=0, name="roof", color="#000000"),),
    )  # fmt: skip
    (tmp_path / made.weights).write_bytes(b"")
    cards.write(made, tmp_path)
    item = cards.read_item(tmp_path / cards.CARD)
    assert item["properties"]["geoml:unit"] == "ft"
    assert cards.read_any(tmp_path) == cards.read(tmp_path, MapCard) == made
    with pytest.raises(ModelError, match="the card of a model of heights, not the card of a locator"):
        cards.read(tmp_path, LocatorCard)


def test_an_item_is_that_of_its_task_else_of_its_section_else_of_a_map() -> None:
    assert kinds() == {
        "encoder": EncoderCard,
        "forecast": ForecastCard,
        "locator": LocatorCard,
        "point_classes": PointCard,
    }
    for name, kind in kinds().items():
        for properties in ({f"geoml:{name}": None}, {"geoml:task": name}):
            assert card_of({"properties": properties}) is kind
    odd: list[Any] = [{}, {"properties": None}, {"properties": []}, {"properties": {"geoml:task": ["locator"]}},
                      {"properties": {"geoml:task": "mlm"}}, {"properties": {"geoml:domain": {}}}]  # fmt: skip
    assert [card_of(item) for item in odd] == [MapCard] * len(odd)


def test_a_map_of_an_unknown_task_is_still_a_map() -> None:
    item = mlm.to_item(
        MapCard(
            name="m", architecture="unet", task="smoke", bands=(Band(name="red"),), gsd=1, chip_size=8,
            classes=(ClassInfo(value=0, name="a", color="#000000"),),
        )
    )  # fmt: skip
    assert mlm.from_item(item, MapCard).task == "smoke"
