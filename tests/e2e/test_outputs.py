"""What a run leaves behind, as other programs see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pystac
import pytest
import rasterio
import shapely
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate

import geoml
from geoml import testing
from geoml.io.stac.search import read_items

THRESHOLDS = (0.20005, 0.40005)
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 500, 600), seed=5), bands=("red", "nir"))
SCENE.data[:, 100:140, 30:200] = 0


@pytest.fixture(scope="module")
def out(catalog: Path, threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with everything that can be written."""
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
        geoml.predict({"model": threshold, "query": query, "block_size": 256, "probabilities": True}, folder)
    return folder


def test_everything_that_was_promised_is_there(out: Path) -> None:
    names = {p.name for p in out.iterdir() if not p.name.startswith(".")}
    assert names == {
        "collection.json", "items", "cogs", "features.parquet", "items.parquet", "sources.parquet", "model.json",
        "run.json", "report.html", "map.html", "layers", "map.qgz", "features.qml",
    }  # fmt: skip
    run = json.loads((out / "run.json").read_text())
    assert set(run["files"]) == names
    assert run["recipe"]["block_size"] == 256
    assert {"read", "model", "write"} <= set(run["seconds"])
    assert run["bytes"]["read"] > 0
    assert run["bytes"]["write"] > 0
    count = testing.read_map(out, "valid")[SCENE.crs].data[0]
    share = 100 * ((count > 0) & (count != 255)).sum() / (count != 255).sum()
    assert run["valid_percent"] == pytest.approx(share, abs=0.01)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "level-2" in page
    assert "http://" not in page.replace("http://www.w3.org/", ""), "self-contained: nothing is fetched"


def test_its_report_says_the_scores_of_the_right_classes(
    predict: Callable[..., Path], catalog: Path, tmp_path: Path
) -> None:
    names, confusion = ("water", "crop", "built"), [[50, 1, 2], [3, 40, 4], [5, 6, 30]]
    scores = {"split": "test", "pixels": 141, "iou": dict(zip(names, (0.8, 0.7, 0.6), strict=True))}
    bands = ("red", "nir")
    testing.threshold_model(tmp_path / "m", bands, THRESHOLDS, names=names, scores={**scores, "confusion": confusion})
    page = (predict(str(tmp_path / "m"), catalog, SCENE.bbox()) / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"(<[^>]+>|\s)+", " ", page)
    for name, iou, row in zip(names, scores["iou"].values(), confusion, strict=True):
        assert re.search(rf" {name} {iou:.3f} {sum(row)} ", text)
        assert f" {name} {' '.join(f'{100 * n / sum(row):.1f} % {n}' for n in row)} " in text


def test_cogs_are_valid(out: Path) -> None:
    paths = sorted(out.glob("cogs/*/*.tif"))
    assert {p.stem for p in paths} == {"class", "confidence", "valid", "probabilities"}
    for path in paths:
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert valid, (path, errors, warnings)
    with rasterio.open(paths[0].with_name("class.tif")) as file:
        assert file.nodata == 255
        assert {k: v[:3] for k, v in file.colormap(1).items() if k < 3} == {
            0: (0x1F, 0x78, 0xB4), 1: (0x33, 0xA0, 0x2C), 2: (0xFF, 0x7F, 0x00),
        }  # fmt: skip
        assert file.tags(1)["STATISTICS_VALID_PERCENT"]
    with rasterio.open(paths[0].with_name("probabilities.tif")) as file:
        assert file.count == 3
        assert file.scales == (1 / 250,) * 3
        assert file.descriptions == ("level-0", "level-1", "level-2")


def test_probabilities_add_up(out: Path) -> None:
    probabilities = testing.read_map(out, "probabilities")[SCENE.crs].data
    confidence = testing.read_map(out, "confidence")[SCENE.crs].data[0]
    known = confidence != 255
    assert np.abs(probabilities.astype(int)[:, known].sum(axis=0) - 250).max() <= 2
    assert (probabilities.max(axis=0)[known] == confidence[known]).all()
    assert (probabilities[:, ~known] == 255).all()


def test_stac_is_valid_and_complete(out: Path, stac_schemas: ModuleType) -> None:
    collection = json.loads((out / "collection.json").read_text())
    assert stac_schemas.validate(collection)
    linked = {Path(k["href"]).name for k in collection["links"] if k["rel"] == "item"}
    files = sorted((out / "items").glob("*.json"))
    assert linked == {f.name for f in files}
    for file in files:
        item = json.loads(file.read_text())
        used = stac_schemas.validate(item)
        assert any("classification" in u for u in used)
        assert any("projection" in u for u in used)
        assert item["properties"]["geoml:sources"] == ["made/scene"]
        for asset in item["assets"].values():
            target = file.parent / asset["href"]
            assert target.is_file()
            assert target.stat().st_size == asset["file:size"]
        assert {"class", "confidence", "valid", "probabilities", "thumbnail"} == set(item["assets"])
    read = pystac.Collection.from_file(str(out / "collection.json"))
    items = list(read.get_items())
    assert len(items) == len(files)
    assert [i.id for i in sorted(read_items(out / "items.parquet"), key=lambda i: i.id)] == sorted(i.id for i in items)
    assert [i.id for i in read_items(out / "sources.parquet")] == ["scene"]


def test_items_parquet_finds_the_files(out: Path) -> None:
    assert str(out.resolve()).encode() not in (out / "items.parquet").read_bytes(), "a run can be moved"
    for links in pq.read_table(out / "items.parquet")["links"].to_pylist():
        local = [link["href"] for link in links if "://" not in link["href"]]
        assert any("model.json" in href for href in local)
        assert all((out / href).is_file() for href in local)
    for item in read_items(out / "items.parquet"):
        for asset in item.assets.values():
            assert (out / asset.href).is_file()


def test_the_run_is_a_catalog_again(out: Path) -> None:
    found = geoml.search({"catalog": str(out / "collection.json"), "bbox": SCENE.bbox(), "datetime": ["2024"]})
    assert {i.id for i in found} == {p.stem for p in (out / "items").iterdir()}


def test_geoparquet_is_valid(out: Path, conforms: Callable[[Path], bool]) -> None:
    assert conforms(out / "features.parquet")


def test_polygons_are_the_map(out: Path) -> None:
    """Drawn again on the pixels they give the class map, so no polygon is lost, doubled or cut at a block's edge."""
    frame = geopandas.read_parquet(out / "features.parquet")
    assert frame.crs.to_epsg() == 4326
    found = testing.read_map(out)[SCENE.crs]
    placed = frame.to_crs(SCENE.crs)
    box = found.plane.geobox(found.window)
    shapes = zip(placed.geometry, placed["class"], strict=True)
    drawn = rasterize(shapes, box.shape, fill=255, transform=box.affine, dtype="uint8")
    assert (drawn == found.data[0]).all()
    assert frame["id"].is_unique
    assert set(frame["name"]) == {"level-0", "level-1", "level-2"}
    assert frame.confidence.between(0, 1).all()
    # whole: two polygons of one class never share a border of positive length
    for _, same in placed.groupby("class"):
        tree = shapely.STRtree(same.geometry.to_numpy())
        left, right = tree.query(same.geometry.to_numpy(), predicate="touches")
        shared = shapely.intersection(same.geometry.to_numpy()[left], same.geometry.to_numpy()[right])
        assert shapely.length(shared).max(initial=0) < 1e-3
    crossing = [b for b in frame["blocks"] if len(b) > 1]
    assert crossing, "some polygon spans blocks, or nothing was tested"


def test_small_polygons_are_left_out_after_merging(
    predict: Callable[..., Path], out: Path, threshold: str, catalog: Path
) -> None:
    other = predict(threshold, catalog, SCENE.bbox(), block_size=256, min_area=5000.0)
    every = geopandas.read_parquet(out / "features.parquet")
    large = geopandas.read_parquet(other / "features.parquet")
    assert 0 < len(large) < len(every)
    assert set(large["id"]) == set(every["id"][every.area_m2 >= 5000])


def test_the_same_run_writes_the_same_bytes(predict: Callable[..., Path], threshold: str, catalog: Path) -> None:
    a, b = (predict(threshold, catalog, SCENE.bbox(inner=0.3), name) for name in ("a", "b"))
    for path in sorted(p for p in a.rglob("*") if p.is_file() and p.name not in ("run.json", "report.html")):
        assert path.read_bytes() == (b / path.relative_to(a)).read_bytes(), path
