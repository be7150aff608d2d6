"""Packages are found by name, folder or URL, and their cards are read without their weights and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from geoml.engine.packages import cards
from geoml.errors import InputError, ModelError
from geoml.geolocation.cards.locator import LocatorCard
from geoml.io.cards.map_card import MapCard
from geoml.settings import settings, shipped


@pytest.fixture
def catalogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Catalogs with the cards of a map and a locator, a damaged card, and a folder without one."""
    models = tmp_path / "catalogs" / "models"
    for name, source in (("water", "demo-itaipu"), ("places", "world-overhead")):
        (models / name).mkdir(parents=True)
        content = (shipped() / "models" / source / cards.CARD).read_bytes()
        (models / name / cards.CARD).write_bytes(content)
    (models / "broken").mkdir()
    (models / "broken" / cards.CARD).write_text("{")
    (models / "no-card").mkdir()
    monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path / "catalogs"))
    settings.cache_clear()
    return models


def test_names_come_from_the_catalogs_and_can_be_those_of_a_kind(catalogs: Path) -> None:
    assert cards.names() == sorted(cards.names())
    assert {"broken", "places", "water", "demo-itaipu", "world-overhead"} <= set(cards.names())
    assert set(cards.names(LocatorCard)) == {"places", "world-overhead"}
    assert {"broken", "water", "demo-itaipu"} <= set(cards.names(MapCard))
    assert "places" not in cards.names(MapCard)
    assert cards.read("water", MapCard).name == "demo-itaipu"
    assert cards.read_any("places").task == "geolocation"
    assert cards.find("water") == catalogs / "water"
    with pytest.raises(InputError, match="did you mean 'water'"):
        cards.read("watr", MapCard)


def test_a_card_of_another_kind_is_refused(catalogs: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.json: the card of a locator, not the card of a model of maps"):
        cards.read("places", MapCard)
    with pytest.raises(ModelError, match=r"model\.json: the card of a model of maps, not the card of a locator"):
        cards.read("water", LocatorCard)


def test_a_folder_without_a_card_and_a_lone_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no model\.json"):
        cards.find(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match="pickle is never executed"):
        cards.find(tmp_path / "model.pth")


@pytest.mark.parametrize(
    "text", [b"[]", b"7", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b" " * (cards.MAX_CARD + 1)]
)
def test_a_card_that_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "model.json").write_bytes(text)
    for read in (cards.read_any, lambda folder: cards.read(folder, LocatorCard)):
        with pytest.raises(ModelError, match=r"model\.json: .*not a model card"):
            read(tmp_path)


def test_cards_are_read_without_torch() -> None:
    program = (
        "import sys\n"
        "from geoml.engine.packages import cards\n"
        "from geoml.io.cards.map_card import MapCard\n"
        "tasks = {cards.read_any(name).task for name in cards.names()}\n"
        "print(sorted(tasks), len(cards.names(MapCard)), 'torch' in sys.modules, 'rasterio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout.strip()
        == "['change', 'detection', 'encoder', 'geolocation', 'point_classes', 'segmentation'] 11 False False"
    )
