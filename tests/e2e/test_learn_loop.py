"""Learn, ask for places, fill them in, learn again: as the report and the commands say, in folders named relatively."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import yaml

from geoml import testing
from geoml.engine.learn import choose
from geoml.engine.packages import cards
from geoml.io.cards.map_card import MapCard
from geoml.settings import settings
from tests.e2e.made_landcover import CLASSES, SCENE, TRUTH, labels, scenes
from tests.e2e.printed import Cli, said, wide

__all__ = ["said", "wide"]  # fixtures
MONTHS = ("2024-04", "2024-07")
WORDS = ("--field", "crop", "--catalog", "made/catalog.json", "--mask", "none", "--region", "region.geojson",
         "--datetime", MONTHS[0], "--datetime", MONTHS[1], "--model", "bands", "--bands", "red", "--bands", "nir",
         "--gsd", 10)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a catalog, a region and labels that are called by relative paths."""
    testing.write_catalog(tmp_path / "made", scenes())
    region = gpd.GeoSeries.from_wkt([f"POLYGON (({', '.join(_corners())}))"], crs=4326)
    region.to_file(tmp_path / "region.geojson")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose, "TREES", 5)
    monkeypatch.setattr(choose, "DRAWS", 2)
    monkeypatch.setenv("GEOML_PRECISION", "fp32")
    settings.cache_clear()
    return tmp_path


def _corners() -> list[str]:
    west, south, east, north = SCENE.bbox()
    return [f"{x} {y}" for x, y in ((west, south), (east, south), (east, north), (west, north), (west, south))]


def true_class(places: gpd.GeoDataFrame) -> list[str]:
    at = places.to_crs(SCENE.crs).geometry.representative_point()
    x, y = SCENE.origin
    return [CLASSES[k] for k in TRUTH[((y - at.y) // 10).astype(int), ((at.x - x) // 10).astype(int)]]


def taught(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Places of each class, and those left out by why."""
    card = cards.read(folder / "model", MapCard)
    return {n: row["places"] for n, row in card.scores["support"].items()}, card.training["left_out"]


@pytest.mark.parametrize("kind", ["point", "polygon"])
def test_the_loop_closes(
    kind: str, here: Path, said: Callable[..., str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = labels(kind, of=6)
    first.to_file(here / "labels.gpkg")
    said("learn", "labels.gpkg", *WORDS, "--out", "learnt")
    report = re.search(
        r"run <code>geoml (area next [^<]+)</code> in this folder", Path("learnt/report.html").read_text()
    )
    assert report
    monkeypatch.chdir(here / "learnt")
    told = said(*report[1].split())
    again = "again with --add next.gpkg and another --out"
    assert "places in next.gpkg; fill in the column crop, then give the geoml learn" in told
    assert again in told
    places = gpd.read_file("next.gpkg")
    assert set(places.geom_type) == {first.geom_type[0]}, "of the kind of the labels, so that both make one file"
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    said("area", "next", here / "learnt", "--places", 20, "--out", "same.gpkg")
    assert gpd.read_file("same.gpkg").equals(places)
    monkeypatch.chdir(here)
    (here / "learnt").rename(here / "moved")
    said("area", "next", "moved", "--places", 20, "--out", "same.gpkg")
    assert gpd.read_file("same.gpkg").equals(places)

    places["crop"] = true_class(places)
    places.loc[0, "crop"] = None
    places.to_file("next.gpkg")
    said("learn", "labels.gpkg", *WORDS, "--add", "next.gpkg", "--out", "learnt2")
    count = pd.concat([first["crop"], places["crop"][1:]]).value_counts()
    found, left = taught(here / "learnt2")
    assert left == {"without a value in crop": 1}
    assert found == {n: count[n] for n in CLASSES}
    both = pd.concat([first.to_crs(4326), places[["crop", "geometry"]]], ignore_index=True)
    both.to_file("both.gpkg")
    said("learn", "both.gpkg", *WORDS, "--out", "learnt3")
    assert taught(here / "learnt3")[0] == found
    refused = cli("learn", "labels.gpkg", *WORDS, "--add", "next.gpkg", "--out", "moved")
    assert "different recipe or labels" in refused.output


def test_points_correct_polygons(here: Path, said: Callable[..., str]) -> None:
    first = labels("polygon", of=6)
    first.to_file(here / "labels.gpkg")
    more = first.iloc[[0, 1]].copy()
    wrong, right = more["crop"].iloc[0], next(n for n in CLASSES if n != more["crop"].iloc[0])
    more.geometry = more.geometry.representative_point()
    more["crop"] = right
    more["mapped"] = wrong
    more.to_file(here / "more.gpkg")
    said("learn", "labels.gpkg", *WORDS, "--add", "more.gpkg", "--out", "learnt")
    card = cards.read(here / "learnt" / "model", MapCard)
    assert card.scores["learnt"]["kind"] == "place"
    assert sum(row["places"] for row in card.scores["support"].values()) == len(first) + 2
    said("learn", "labels.gpkg", *WORDS, "--out", "before")
    pixels = cards.read(here / "before" / "model", MapCard).scores["pixels"]
    assert card.scores["pixels"] == pixels, "pixels that are labelled again are not counted twice"
    query = {"catalog": "made/catalog.json", "region": "region.geojson", "datetime": list(MONTHS)}
    about = {"model": "bands", "bands": ["red", "nir"], "gsd": 10, "mask": "none", "task": "landcover", "field": "crop"}
    recipe = {**about, "labels": "labels.gpkg", "add": ["more.gpkg"], "query": query}
    (here / "r.yaml").write_text(yaml.safe_dump(recipe))
    scores = json.loads(said("evaluate", "--model", "before/model", "r.yaml", "--json"))
    assert (scores["split"], scores["pixels"], scores["taught_with"]) == ("other labels", 2, len(first))


def test_a_run_whose_package_is_gone(here: Path, said: Callable[..., str], cli: Cli) -> None:
    labels("point", of=6).to_file(here / "labels.gpkg")
    said("learn", "labels.gpkg", *WORDS, "--out", "learnt")
    (here / "learnt" / "model" / "model.json").unlink()
    result = cli("area", "next", "learnt", "--out", "next.gpkg")
    assert result.exit_code == 2
    assert "that made" in result.stderr
    assert "give the command in the folder where the run was made" in " ".join(result.stderr.split())
