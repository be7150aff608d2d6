"""One's own files, without a catalog and without a recipe: as typed, and what comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from affine import Affine

import geoml
from geoml import pipeline, testing
from geoml.cli.common import out_console
from geoml.data.recipe import TrainRecipe
from geoml.recipe import parse
from geoml.settings import settings, shipped
from tests.e2e.conftest import THRESHOLDS
from tests.e2e.printed import Cli, prints, rows, said, wide
from tests.integration import fault_server

__all__ = ["said", "wide"]  # fixtures

CRS, ORIGIN = "EPSG:32621", (600_000.0, 7_000_000.0)
DATA = testing.smooth((2, 200, 300), seed=5)


def tif(path: Path, data: np.ndarray = DATA, names: tuple[str, ...] = (), **more: Any) -> Path:
    """A GeoTIFF of 10 m with descriptions of its bands."""
    place = {"crs": CRS, "transform": Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1])} | more
    profile = {"driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2], "nodata": 0}
    with rasterio.open(path, "w", dtype=data.dtype, **profile, **place) as file:
        file.write(data)
        for band, name in enumerate(names, 1):
            file.set_band_description(band, name)
    return path


def mapped(run: Path) -> np.ndarray:
    """The class map of a run on the pixels of the scene, 255 where there is none."""
    out = np.full(DATA.shape[1:], 255, np.uint8)
    for path in run.glob("cogs/*/class.tif"):
        with rasterio.open(path) as file:
            row, column = (round((ORIGIN[1] - file.transform.f) / 10), round((file.transform.c - ORIGIN[0]) / 10))
            block = file.read(1)
            y0, x0 = max(row, 0), max(column, 0)
            y1, x1 = min(row + block.shape[0], 200), min(column + block.shape[1], 300)
            if y1 > y0 and x1 > x0:
                out[y0:y1, x0:x1] = block[y0 - row : y1 - row, x0 - column : x1 - column]
    return out


def truth(data: np.ndarray) -> np.ndarray:
    """What the model ``threshold`` says: the number of thresholds below red."""
    return sum((data[0] * 1e-4 > limit).astype(np.uint8) for limit in THRESHOLDS)


# --- catalogs


@prints("catalogs new")
def test_catalogs_new(
    said: Callable[..., str],
    cli: Cli,
    stac_schemas: ModuleType,
    threshold: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scenes").mkdir()
    for day in ("20240601", "20240602"):
        tif(tmp_path / "scenes" / f"field_{day}.tif", names=("Red", "NIR"))
    files = sorted((tmp_path / "scenes").glob("*.tif"))
    told = said("catalogs", "new", *files, "--scale", "1e-4", "--out", tmp_path / "made")
    assert rows(told)["field_20240601"] == ["red nir", "10 m", CRS, "2024-06-01T12:00:00Z", "file name"]
    assert f"Use it with --catalog {tmp_path / 'made' / 'catalog.yaml'}" in told
    for item in (tmp_path / "made" / "items").glob("*.json"):
        stac_schemas.validate(json.loads(item.read_text()))
    found = json.loads(said("search", tmp_path / "made" / "catalog.yaml", "--bbox", "-60,60,-50,65", "--datetime",
                            "2024-06-02", "--json"))  # fmt: skip
    assert [f["id"] for f in found["features"]] == ["field_20240602"]
    band = found["features"][0]["assets"]["image"]["bands"][1]
    assert band == {"name": "nir", "eo:common_name": "nir", "data_type": "uint16", "nodata": 0.0, "raster:scale": 1e-4,
                    "raster:offset": 0.0}  # fmt: skip
    asked = ("--bbox", "-60,60,-50,65", "--datetime", "2024-06-02")
    searched = cli("search", tmp_path / "made", *asked)
    run = cli("predict", "--model", threshold, "--catalog", tmp_path / "made", *asked, "--out", tmp_path / "no")
    for refused in (searched, run):  # files elsewhere only by the YAML, which the user names
        assert refused.exit_code == 2
        assert f"expected {tmp_path / 'made' / 'catalog.yaml'}" in refused.output
    monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path))
    settings.cache_clear()
    listed = {row["name"]: row["from"] for row in json.loads(said("catalogs", "list", "--json"))}
    assert listed["made"] == "yours"
    found = json.loads(said("search", "made", *asked, "--json"))
    assert [f["id"] for f in found["features"]] == ["field_20240602"]
    said("predict", "--model", threshold, "--catalog", "made", *asked, "--out", tmp_path / "by-name")
    settings.cache_clear()


def test_a_table_of_many_bands_says_their_number(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 80)
    names = [f"b{k}" for k in range(33)]
    path = tif(tmp_path / "a_20240601.tif", np.ones((33, 64, 64), np.uint16))
    told = said("catalogs", "new", path, "--bands", ",".join(names), "--out", tmp_path / "made")
    assert rows(told)["a_20240601"][0] == "33 bands"
    assert "…" not in told
    told = said("catalogs", "new", path, "--bands", ",".join([*names[:2], *"-" * 31]), "--out", tmp_path / "two")
    assert rows(told)["a_20240601"][0] == "b0 b1"


def test_a_catalog_in_the_folder_of_its_files_moves_with_them(said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tif(tmp_path / "a" / "20240601.tif", names=("red", "nir"))
    told = said("catalogs", "new", tmp_path / "a" / "20240601.tif", "--out", tmp_path / "a")
    assert f"Use it with --catalog {tmp_path / 'a'}\n" in told
    (tmp_path / "a").rename(tmp_path / "b")
    found = geoml.search({"catalog": str(tmp_path / "b"), "bbox": (-60, 60, -50, 65), "datetime": "2024"})
    assert Path(found[0].assets["image"].href).resolve() == tmp_path / "b" / "20240601.tif"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.tif", "--bands", "red"], "bands: 1 names for the 2 bands of a.tif"),
        (["a.tif"], "bands: a.tif has 2 bands without a name"),
        (["a.tif", "--bands", "red,red"], "expected different names"),
        (["a.tif", "one.tif", "--bands", "red,nir"], "bands: 2 names for the 1 bands of one.tif"),
        (
            ["a.tif", "nowhere.tif", "--bands", "red,nir"],
            "scenes: 1 of 2 files cannot be used: .*nowhere.tif: no georef",
        ),
        (["a.tif", "gone.tif", "--bands", "red,nir"], "1 of 2 files cannot be used: .*gone.tif: is not a file"),
        (
            ["a.tif", "--bands", "red,nir"],
            "datetime: no date in tags or name of 1 of 1 scene: a; expected --datetime",
        ),
        (["a.tif", "--bands", "red,nir", "--datetime", "June"], "datetime: 'June'; expected such as 2024-06-01"),
    ],
)
def test_what_does_not_fit_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tif(tmp_path / "a.tif")
    tif(tmp_path / "one.tif", DATA[:1])
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        tif(tmp_path / "nowhere.tif", crs=None, transform=Affine.identity())
    found = cli("catalogs", "new", *words, "--out", "made")
    assert found.exit_code == 2
    assert re.search(says, found.output), found.output
    assert not (tmp_path / "made").exists()


@prints("catalogs list", "recipes list")
def test_one_s_own_catalogs_are_added(
    said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine").mkdir()
    testing.write_catalog(tmp_path / "mine", [])
    (tmp_path / "demo.yaml").write_text((tmp_path / "mine.yaml").read_text())
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "wheat.yaml").write_text("name: wheat\ndescription: Fields of wheat.\n")
    monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path))
    settings.cache_clear()
    told = rows(said("catalogs", "list"))
    assert told["mine"][:2] == ["yours", "static"]
    assert told["demo"][0] == "yours, instead of geoml's"
    assert told["earth-search"][:2] == ["geoml", "api"]
    listed = {c["name"] for c in json.loads(said("catalogs", "list", "--json"))}
    assert listed == set(told) - {"name", ""}, "a path may take several lines"
    told = rows(said("recipes", "list"))
    assert told["wheat"] == ["yours", "segmentation", "Fields of wheat."]
    assert set(told) > {p.stem for p in (shipped() / "recipes").glob("*.yaml")}
    said("search", "demo", "--help")
    from geoml.io.stac.catalog import open_catalog

    assert open_catalog("demo").url == str(tmp_path / "mine" / "catalog.json")
    assert "demo.yaml is used instead of the one of that name that comes with geoml" in caplog.text


# --- a map of an image


def test_an_image_alone_gives_a_map_and_is_known_by_what_it_holds(
    threshold: str, said: Callable[..., str], tmp_path: Path
) -> None:
    image = tif(tmp_path / "scene_20240601.tif")
    words = ("predict", "--model", threshold, "--image", image, "--bands", "red,nir", "--scale", "1e-4")
    assert "1 item, 1 block of 2048 pixels in 32621-10" in said(*words, "--out", tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists()
    asked = {"model": threshold, "image": str(image), "bands": "red,nir", "scale": 1e-4}
    geoml.predict(asked, tmp_path / "out")
    assert np.array_equal(mapped(tmp_path / "out"), truth(DATA))
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/items/*.json")}
    image.touch()
    geoml.predict(asked, tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps, "the same content: nothing to do"
    turned = DATA[:, ::-1].copy()
    said(*words[:4], tif(image, turned), *words[5:], "--out", tmp_path / "out")
    assert np.array_equal(mapped(tmp_path / "out"), truth(turned))
    tif(tmp_path / "other_20240601.tif")
    with pytest.raises(geoml.InputError, match="contains a map of different images: scenes is"):
        geoml.predict(asked | {"image": str(tmp_path / "other_20240601.tif")}, tmp_path / "out")


def test_images_are_not_written_down_while_another_works_on_the_run(threshold: str, tmp_path: Path) -> None:
    out, told = tmp_path / "out", {"model": threshold, "bands": "red,nir", "scale": 1e-4}
    first, other = tif(tmp_path / "a_20240601.tif"), tif(tmp_path / "b_20240601.tif")
    geoml.predict({**told, "image": str(first)}, out)
    for done in (out / "items").glob("*.json"):
        done.unlink()
    before = {p: p.read_bytes() for p in (out / ".geoml").rglob("*.json") if p.name != "lock.json"}
    with pipeline.locked(out), pytest.raises(geoml.GeomlError, match="is being worked on by"):
        geoml.predict({**told, "image": str(other)}, out)
    assert {p: p.read_bytes() for p in (out / ".geoml").rglob("*.json") if p.name != "lock.json"} == before
    geoml.predict({**told, "image": str(first)}, out)
    assert np.array_equal(mapped(out), truth(DATA))


def test_another_image_elsewhere_of_the_same_name_is_another(
    threshold: str, tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(retries=0, timeout=5, private_hosts=True, schemes='["http"]')
    content = tif(tmp_path / "x_20240601.tif").read_bytes()
    asked = {"model": threshold, "bands": "red,nir", "scale": 1e-4}
    with fault_server.serve(files={f"/{k}/x_20240601.tif": content for k in "ab"}) as server:
        geoml.predict({**asked, "image": f"{server.url}/a/x_20240601.tif"}, tmp_path / "out")
        with pytest.raises(geoml.InputError, match="contains a map of different images: scenes is"):
            geoml.predict({**asked, "image": f"{server.url}/b/x_20240601.tif"}, tmp_path / "out")


def test_a_damaged_list_of_images_is_named(threshold: str, tmp_path: Path) -> None:
    asked = {"model": threshold, "bands": "red,nir", "scale": 1e-4, "image": str(tif(tmp_path / "a_20240601.tif"))}
    geoml.predict(asked, tmp_path / "out")
    (tmp_path / "out" / ".geoml" / "images.json").write_text('{"scenes": [')
    with pytest.raises(geoml.DataError, match=r"images\.json: damaged"):
        geoml.predict(asked, tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, r"bands: scene.tif has 2 bands without a name; expected bands= with 2.*; \S+ takes red,nir"),
        ({"bands": "red,swir16"}, "no band 'nir'; it has red, swir16"),
        ({"bands": "red,nir", "query": {"catalog": "demo"}}, "image, catalog: give one of them"),
        ({"bands": "red,nir", "model": "cva"}, "image: 1 given; cva takes 2 dates"),
        ({"bands": "red,nir", "clouds": 1}, "clouds: Extra inputs are not permitted"),
    ],
)
def test_an_image_that_does_not_fit(threshold: str, tmp_path: Path, more: dict[str, Any], says: str) -> None:
    asked = {"model": threshold, "image": str(tif(tmp_path / "scene.tif")), **more}
    with pytest.raises(geoml.GeomlError, match=says):
        geoml.predict(asked, tmp_path / "out")
    assert (tmp_path / "out").exists() == says.startswith("no band"), (
        "refused before a folder is made, if not by the plan"
    )


def test_two_images_are_compared(said: Callable[..., str], tmp_path: Path) -> None:
    later = DATA.copy()
    later[:, 60:120, 60:120] = later[::-1, 60:120, 60:120] // 2 + 3000
    names = [tif(tmp_path / f"field_{year}0601.tif", d) for year, d in ((2020, DATA), (2024, later))]
    told = said("models", "new", "cva", "--bands", "red,nir", "--gsd", "10", "--out", tmp_path / "cva")
    assert "wrote" in told
    said("predict", "--model", tmp_path / "cva", "--image", names[0], "--image", names[1], "--bands", "red,nir",
         "--out", tmp_path / "out")  # fmt: skip
    changed = mapped(tmp_path / "out") == 1
    assert changed[70:110, 70:110].mean() > 0.9
    assert changed[130:].mean() < 0.1


# --- training from drawn labels


def fields(folder: Path) -> Path:
    """A scene of three classes by value, and polygons of them."""
    kind = np.arange(300)[None, :] // 50 % 3 + np.zeros((200, 1), int)
    rng = np.random.default_rng(0)
    data = (np.stack([1000 + 1500 * kind, 4000 - 1200 * kind]) + rng.normal(0, 60, (2, 200, 300))).astype(np.uint16)
    tif(folder / "scene.tif", data, names=("red", "nir"))
    boxes, crops = [], []
    for stripe in range(6):
        for row in range(3):
            x, y = ORIGIN[0] + 500 * stripe + 120, ORIGIN[1] - 600 * row - 200
            boxes.append(shapely.box(x, y - 250, x + 250, y))
            crops.append(("wheat", "maize", "rape")[stripe % 3])
    frame = geopandas.GeoDataFrame({"crop": crops}, geometry=boxes, crs=CRS)
    frame.to_file(folder / "labels.gpkg", layer="fields")
    return folder


def test_the_recipe_of_an_image_and_labels(said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    fields(tmp_path)
    words = ("train", "--image", tmp_path / "scene.tif", "--labels", f"{tmp_path / 'labels.gpkg'}:fields", "--field",
             "crop", "--out", tmp_path / "crops")  # fmt: skip
    recipe = parse(TrainRecipe, yaml.safe_load(said(*words, "--dry-run")), "recipe")
    assert not (tmp_path / "crops").exists()
    assert [c.name for c in recipe.classes] == ["maize", "rape", "wheat"]
    assert len({c.color for c in recipe.classes}) == 3
    assert (recipe.bands, recipe.gsd, recipe.name) == (("red", "nir"), 10.0, "crops")
    for wrong, says in (
        (words[:3], "labels, field: not given"),
        ((*words, "water"), "image: belongs to an image; expected a recipe or an image, not both"),
    ):
        found = cli(*wrong, *([] if "--out" in wrong else ["--out", tmp_path / "x"]))
        assert found.exit_code == 2
        assert says in found.output


@pytest.mark.slow
def test_from_labels_to_a_map_and_round_again(
    said: Callable[..., str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields(tmp_path)
    image, model = tmp_path / "scene.tif", tmp_path / "crops"
    words = ("train", "--image", image, "--labels", f"{tmp_path / 'labels.gpkg'}:fields", "--field", "crop")
    told = said(*words, "--epochs", "4", "--out", model)
    table = rows(told)
    assert {"crops", "all maize"} & set(table) or any(name.startswith("all ") for name in table)
    assert float(next(v for k, v in table.items() if k.endswith("on each pixel"))[0]) > 0.95
    said("predict", "--model", model, "--image", image, "--out", tmp_path / "map")
    report = re.search(r"<code>geoml (area next [^<]+)</code>", (tmp_path / "map" / "report.html").read_text())
    assert report
    monkeypatch.chdir(tmp_path / "map")
    told = said(*report[1].split())
    corrected = tmp_path / "map" / "next.gpkg"
    places = geopandas.read_file(corrected)
    assert f"{len(places)} places" in told
    assert told.endswith("again with --add next.gpkg and another --out\n")
    assert list(places.columns) == ["id", "crop", "mapped", "sure", "geometry"]
    places["crop"] = "wheat"
    places.to_file(corrected)
    refused = cli(*words, "--add", corrected, "--epochs", "4", "--out", model)
    assert "contains a training with different images, labels or options" in refused.output
    said(*words, "--add", corrected, "--epochs", "1", "--out", tmp_path / "more")
    taught = [geopandas.read_file(p) for p in (tmp_path / "more").glob("labels-*/*.gpkg")]
    metric = places.to_crs(CRS).geometry
    assert np.abs(np.stack([metric.x, metric.y]) % 10 - 5).max() < 0.01, "in the middle of a pixel"
    for point in metric:
        assert {c for t in taught for c in t[t.intersects(point)]["crop"]} == {"wheat"}


def test_axes_that_are_exchanged_are_hinted_at(cli: Cli) -> None:
    for box, says in (
        ("-25.46,-54.725,-25.15,-54.46", "with longitude and latitude exchanged the region would meet them"),
        ("46,100,47,101", "did you mean 100.0 46.0 101.0 47.0, longitude first?"),
    ):
        assert says in cli("search", "demo", "--bbox", box, "--datetime", "2020-05-18").output
    far = cli("search", "demo", "--bbox", "1,2,3,4", "--datetime", "2020-05-18").output
    assert "no items" in far
    assert "exchanged" not in far
