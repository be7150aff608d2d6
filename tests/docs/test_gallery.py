"""The page of models names every package that ships, with figures that are those of its card."""

from __future__ import annotations

import re
from pathlib import Path

from geoml.engine.packages import cards
from geoml.io.cards.map_card import MapCard
from tests.benchmarks.dynamic_world import beside

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_package_that_ships_has_a_line() -> None:
    table = PAGE.split("## What ships")[1].split("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert named == set(cards.names())


def test_every_picture_is_in_the_gallery_with_the_command_that_makes_it() -> None:
    """A picture of the documents is that of a demo; the pages of the site are linked to it."""
    docs = Path(__file__).parents[2] / "docs"
    gallery = (docs / "gallery.md").read_text(encoding="utf-8")
    sections = gallery.split("\n## ")[1:]
    shown = [re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text) for text in sections]
    assert sorted(name for names in shown for name in names) == sorted(
        path.name for path in docs.iterdir() if path.suffix in (".png", ".jpg")
    )
    for text, (picture,) in zip(sections, shown, strict=True):
        kind = Path(picture).stem
        assert f"`geoml demo{'' if kind == 'demo' else f' --{kind}'}`" in text
        assert re.findall(r"\]\((\w+\.md)\)", text)
    assert "gallery.md" in (docs / "site" / "mkdocs.yml").read_text(encoding="utf-8")


def test_figures_of_dynamic_world_are_those_of_its_card() -> None:
    card = cards.read("dynamic-world", MapCard)
    rows = PAGE.split("## dynamic-world")[1]
    patch = card.scores["eolearn_testeopatch"]
    assert len(patch["dates"]) == 5
    for date in patch["dates"].values():
        said = [date["model"]["accuracy"], date["model"]["ece"], date["ece_without_temperature"]]
        line = next((row for row in rows.splitlines() if f"{said[0]:.3f}" in row), "")
        assert all(f"{value:.3f}" in line for value in said), said
    spain, patches = card.scores["sen1floods11_spain"], card.scores["bigearthnet"]
    shown = [
        spain["water_iou"],
        spain["ndwi_above_zero_iou"],
        spain["ece"],
        patches["mean"],
        patches["trees_everywhere"],
    ]
    assert all(f"{value:.3f}" in rows for value in shown)
    assert f"{card.made['temperature']:.2f}" in rows
    assert card.scores["beside"] == beside(card.scores)
