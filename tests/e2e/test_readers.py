"""What a run leaves, in the programs that people open it with: the table of docs/readers.md names these tests."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import duckdb
import fastapi
import geopandas
import lonboard
import numpy as np
import odc.stac
import pyogrio
import pystac
import pytest
import rasterio
from fastapi.testclient import TestClient
from PIL import Image
from rio_tiler.colormap import cmap
from titiler.core.factory import TilerFactory

import geoml
from geoml import testing
from geoml.io.stac.search import read_items

THRESHOLDS = (0.20005, 0.40005)
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 300, 400), seed=5), bands=("red", "nir"))
SCENE.data[:, 100:140, 30:200] = 0


@pytest.fixture(scope="module")
def out(catalog: Path, threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
        recipe = {"model": threshold, "query": query, "block_size": 256, "features_format": ["gpkg", "fgb"]}
        geoml.predict(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def truth(out: Path) -> testing.Map:
    return testing.read_map(out)[SCENE.crs]


@pytest.fixture
def renders(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "collection.json").read_text())["renders"]
    return found


def on_map(vrt: rasterio.DatasetReader, truth: testing.Map) -> np.ndarray:
    """The pixels of the window of the truth, as the VRT has them."""
    left, bottom, right, top = truth.plane.bounds(truth.window)
    return vrt.read(window=vrt.window(left, bottom, right, top))


def test_gdal_reads_all_blocks_as_one_raster(out: Path, truth: testing.Map) -> None:
    names = {p.stem for p in (out / "layers").glob("*.vrt")}
    assert names == {"class", "confidence", "valid", "image"}
    with rasterio.open(out / "layers" / "class.vrt") as vrt:
        np.testing.assert_array_equal(on_map(vrt, truth), truth.data)
        assert len(vrt.files) == 1 + len(list((out / "cogs").iterdir()))
    with rasterio.open(out / "layers" / "confidence.vrt") as vrt:
        assert vrt.scales == (1 / 250,)
    with rasterio.open(out / "layers" / "image.vrt") as vrt:
        known = on_map(vrt, truth)[3] > 0
    assert (known == (truth.data[0] != 255)).all()


def test_gdal_reads_polygons_without_parquet(out: Path) -> None:
    rows = pyogrio.read_dataframe(out / "features.gpkg").set_index("id").sort_index()
    other = pyogrio.read_dataframe(out / "features.fgb").set_index("id").sort_index()
    canonical = geopandas.read_parquet(out / "features.parquet").set_index("id").sort_index()
    for found in (rows, other):
        assert found.geometry.geom_equals(canonical.geometry).all()
        assert (found["name"] == canonical["name"]).all()


def test_a_format_that_is_asked_for_later_is_added(out: Path, catalog: Path, threshold: str, tmp_path: Path) -> None:
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(inner=0.3), "datetime": ["2024"]}
    recipe: dict[str, Any] = {"model": threshold, "query": query, "block_size": 256}
    first = geoml.predict(recipe, tmp_path)
    items = {p: p.stat().st_mtime_ns for p in tmp_path.glob("items/*.json")}
    more = geoml.predict({**recipe, "features_format": "fgb"}, tmp_path)
    assert set(more["files"]) - set(first["files"]) == {"features.fgb"}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("items/*.json")} == items, "no block is done again"
    assert "features-fgb" in json.loads((tmp_path / "collection.json").read_text())["assets"]
    (tmp_path / "features.fgb").write_bytes(b"edited")
    more = geoml.predict({**recipe, "features_format": "gpkg"}, tmp_path)
    assert set(more["files"]) - set(first["files"]) == {"features.fgb", "features.gpkg"}
    assert (tmp_path / "features.fgb").read_bytes() == b"edited", "what is there and true is not written again"
    assert geoml.predict({**recipe, "features_format": "fgb"}, tmp_path) == more, "nothing is left to do"
    next(tmp_path.glob("cogs/*/class.tif")).unlink()
    again = geoml.predict(recipe, tmp_path)
    assert {"features.fgb", "features.gpkg"} <= again["files"].keys()
    (tmp_path / "features.fgb").unlink()
    geoml.predict({**recipe, "features_format": ["parquet", "fgb"]}, tmp_path)
    assert (tmp_path / "features.fgb").is_file()


def test_duckdb_sums_areas(out: Path) -> None:
    found = duckdb.sql(
        f"SELECT name, sum(area_m2) FROM '{out}/features.parquet' GROUP BY name ORDER BY name"
    ).fetchall()
    frame = geopandas.read_parquet(out / "features.parquet")
    assert dict(found) == pytest.approx(frame.groupby("name")["area_m2"].sum().to_dict())
    (items,) = duckdb.sql(f"SELECT count(*) FROM '{out}/items.parquet'").fetchall()
    assert items == (len(list((out / "items").iterdir())),)


def test_geopandas_reads_a_window_by_the_bbox_column(out: Path) -> None:
    west, south, east, north = SCENE.bbox(inner=0.4)
    some = geopandas.read_parquet(out / "features.parquet", bbox=(west, south, east, north))
    every = geopandas.read_parquet(out / "features.parquet")
    assert 0 < len(some) < len(every)
    assert set(every.cx[west:east, south:north]["id"]) <= set(some["id"])


@pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning")  # odc-geo
def test_odc_stac_loads_the_map(out: Path, truth: testing.Map) -> None:
    items = [pystac.Item.from_file(str(p)) for p in sorted((out / "items").glob("*.json"))]
    cube = odc.stac.load(items, bands=["class"], geobox=truth.plane.geobox(truth.window))
    np.testing.assert_array_equal(cube["class"].isel(time=0).to_numpy(), truth.data[0])


@pytest.mark.filterwarnings("ignore:The .* keyword in DataFrame.convert_dtypes:DeprecationWarning")  # lonboard
def test_lonboard_shows_the_polygons(out: Path) -> None:
    frame = geopandas.read_parquet(out / "features.parquet", columns=["name", "confidence", "geometry"])
    layer = lonboard.PolygonLayer.from_geopandas(frame)
    assert layer.table.num_rows == len(frame)


def test_titiler_draws_by_the_render_extension(out: Path, renders: dict[str, Any], stac_schemas: ModuleType) -> None:
    used = stac_schemas.validate(json.loads((out / "collection.json").read_text()))
    assert any("render/v2.0.0" in uri for uri in used)
    app = fastapi.FastAPI()
    app.include_router(TilerFactory().router)
    client = TestClient(app)
    block = sorted((out / "cogs").iterdir())[0]

    def drawn(key: str) -> tuple[np.ndarray, np.ndarray]:
        """What is stored, and its picture (y, x, 4) by what the extension says of it."""
        render = renders[key]
        assert render["assets"] == [key]
        values = {"nodata": render["nodata"], "resampling": "nearest", "max_size": 4096}
        if "colormap" in render:
            values["colormap"] = json.dumps(render["colormap"])
        else:
            values |= {"colormap_name": render["colormap_name"], "rescale": ",".join(map(str, render["rescale"][0]))}
        answer = client.get("/preview.png", params={"url": str(block / f"{key}.tif"), **values})
        assert answer.status_code == 200, answer.text
        picture = out.parent / f"{key}.png"
        picture.write_bytes(answer.content)
        with rasterio.open(block / f"{key}.tif") as file:
            return file.read(1), np.asarray(Image.open(picture).convert("RGBA"))

    stored, picture = drawn("class")
    for value, color in renders["class"]["colormap"].items():
        assert (picture[stored == int(value)] == color).all()
    assert (picture[stored == 255][:, 3] == 0).all()
    stored, picture = drawn("confidence")
    viridis = cmap.get("viridis")
    assert renders["confidence"]["rescale"] == [[0.0, 250.0]]
    assert (picture[stored == 250][:, :3] == viridis[255][:3]).all()
    assert (picture[stored == 255][:, 3] == 0).all()


def test_pystac_reads_how_the_layers_are_shown(out: Path, renders: dict[str, Any]) -> None:
    assets = pystac.Collection.from_file(str(out / "collection.json")).extra_fields["item_assets"]
    assert set(renders) == {"class", "confidence", "valid"}
    assert {key for r in renders.values() for key in r["assets"]} <= set(assets)
    assert {i.id for i in read_items(out / "items.parquet")} == {p.stem for p in (out / "items").iterdir()}


def test_the_project_names_files_of_the_run(out: Path) -> None:
    with ZipFile(out / "map.qgz") as archive:
        root = ElementTree.fromstring(archive.read("map.qgs"))
    names = [(e.text or "") for e in root.iter("datasource")]
    assert "./features.gpkg" in names
    assert all((out / name).is_file() for name in names)
    assert [e.get("label") for e in root.iter("paletteEntry")] == ["level-0", "level-1", "level-2"]
