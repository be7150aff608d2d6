"""Weights and pictures that are shipped and ask for attribution have it beside them, and README names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CATALOGS = ROOT / "catalogs"
KIT = ("CC BY 3.0", "KIT AIS Data Set")
KNMI = ("CC BY 4.0", "Royal Netherlands Meteorological Institute")
IGN = ("Etalab 2.0", "(c) IGN")
PRESTO = ("MIT", "(c) 2024 Presto Authors")
GOOGLE = ("Apache-2.0", "copyright 2021 Google LLC")
"""Licence and holder, as both texts have to write them."""


def lacking(folder: Path, holder: tuple[str, str] = KIT) -> list[str]:
    """What the two texts about a folder do not say."""
    beside = folder / "LICENCE.md"
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Licence\n")[1]
    texts = {"LICENCE.md": beside.read_text(encoding="utf-8") if beside.is_file() else "", "README.md": readme}
    wanted = {"LICENCE.md": holder, "README.md": (*holder, f"catalogs/{folder.relative_to(CATALOGS)}")}
    return [f"{name}: {word}" for name, words in wanted.items() for word in words if word not in texts[name]]


def test_every_shipped_model_has_a_licence_that_is_looked_after() -> None:
    """Apache-2.0 is that of geoml itself; for any other one a test stands below."""
    cards = {p.parent.name: json.loads(p.read_text("utf-8")) for p in (CATALOGS / "models").glob("*/model.json")}
    licences = {name: card["properties"]["license"] for name, card in cards.items()}
    others = {"kit-cars": "CC-BY-3.0", "point-classes": "etalab-2.0", "presto": "MIT"}
    assert {k: v for k, v in licences.items() if v != "Apache-2.0"} == others


@pytest.mark.parametrize("folder", ["models/kit-cars", "demo/cars"])
def test_what_is_made_of_photos_of_kit_names_kit(folder: str) -> None:
    assert lacking(CATALOGS / folder) == []


def test_the_radar_names_its_institute() -> None:
    assert lacking(CATALOGS / "demo" / "radar", KNMI) == []


def test_the_weights_of_presto_name_their_authors() -> None:
    assert lacking(CATALOGS / "models" / "presto", PRESTO) == []


def test_the_classes_of_points_name_the_institute_of_their_clouds() -> None:
    assert lacking(CATALOGS / "models" / "point-classes", IGN) == []


def test_the_weights_of_dynamic_world_name_google() -> None:
    assert lacking(CATALOGS / "models" / "dynamic-world", GOOGLE) == []


def test_a_folder_without_attribution_is_seen() -> None:
    assert lacking(CATALOGS / "recipes") == [*(f"LICENCE.md: {w}" for w in KIT), "README.md: catalogs/recipes"]
