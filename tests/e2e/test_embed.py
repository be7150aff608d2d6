"""Maps of embeddings by a small encoder, and search on them, against the encoder itself and other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import shapely
import torch
from numpy.typing import NDArray

import geoml
from geoml import models, testing
from geoml.cube.profile import fit
from geoml.cube.series import Series
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.inference.embed import PixelEmbedder
from geoml.engine.packages import encoder
from geoml.engine.run.similar import EmbeddingIndex
from geoml.errors import DataError, InputError, ModelError
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane
from geoml.io.cards.domain import described
from geoml.io.cards.map_card import Band
from geoml.io.stores import signed
from tests.arcgis_server import FeatureLayer, serve

MONTHS = ("2024-04", "2024-05", "2024-07")
WITHOUT = 1
"""A step without any item."""
SHAPE = (100, 150)
ENCODERS = [n for n in models.names() if hasattr(models.find(n), "encoder")]
DATA = np.stack([testing.smooth((2, *SHAPE), seed=k, low=300, high=3000) for k in range(3)])
SEEN = np.random.default_rng(1).random((3, *SHAPE)) < 0.8
SEEN[:, 20:30, 40:60] = False
SEEN[WITHOUT] = False
VALID = SEEN.any(axis=0)


def scenes() -> list[testing.Scene]:
    return [
        testing.Scene(
            id=f"look-{month}",
            data=np.where(SEEN[k], DATA[k], 0).astype(np.uint16),
            bands=("red", "nir"),
            datetime=f"{month}-14T10:00:00Z",
            unit="reflectance",
        )
        for k, month in enumerate(MONTHS)
        if k != WITHOUT
    ]


SCENE = scenes()[0]


def package(folder: Path, name: str = "presto", **changes: Any) -> str:
    """An encoder with weights by chance, which takes near infrared first."""
    torch.manual_seed(0)
    tokens = {"ndvi": [1, 0], "groups": [[0], [1]]}
    known = models.find(name).Config.__dataclass_fields__
    config = {**models.find(name).TINY, **{k: v for k, v in tokens.items() if k in known}}
    module = models.encoder(name, {**config, "bands": 2})
    card = EncoderCard(
        name=f"small-{name}",
        architecture=name,
        config=config,
        bands=(Band(name="nir", std=0.5, unit="reflectance"), Band(name="red", unit="reflectance")),
        gsd=10,
        steps=24,
        width=int(module.width),
        **changes,
    )
    encoder.save(module, card, folder / name)
    return str(folder / name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return testing.write_catalog(tmp_path_factory.mktemp("embed") / "made", scenes())


def recipe(model: str, catalog: Path, **more: Any) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": MONTHS, **more.pop("query", {})}
    return {"model": model, "query": query, "block_size": 256, **more}


@pytest.fixture(scope="module", params=ENCODERS)
def run(request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A package, and a run by it."""
    folder = tmp_path_factory.mktemp(request.param)
    model = package(folder, request.param)
    geoml.predict(recipe(model, made), folder / "out")
    return model, folder / "out"


def pixels(out: Path, asset: str) -> NDArray[np.number]:
    (found,) = testing.read_map(out, asset, fill=0).values()
    return found.part(SCENE.window)


def expected(model: str) -> NDArray[np.float32]:
    values = np.where(SEEN[:, None], DATA * 1e-4, np.nan).astype(np.float32)
    place = lonlat(Plane("EPSG:32621", 10.0), SCENE.window)
    w = SCENE.window
    embedder = PixelEmbedder(encoder.load(model))
    return embedder.embed(Series(("red", "nir"), values, SEEN, (3, 4, 6), place), origin=(w.y0, w.x0)).vectors


def test_is_what_the_encoder_says_of_each_pixel_in_int8(run: tuple[str, Path]) -> None:
    model, out = run
    stored, wanted = pixels(out, "embedding"), expected(model)
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored == -128, np.broadcast_to(~VALID, stored.shape))
    with rasterio.open(next(out.rglob("embedding.tif"))) as file:
        scale, offset = (np.array(v)[:, None] for v in (file.scales, file.offsets))
        assert file.count == encoder.load(model).card.width
        assert len(set(file.scales)) > 1
    steps = (wanted[:, VALID] - offset) / scale
    kept = np.abs(steps) < 127
    assert kept.mean() > 0.99
    assert np.abs(stored[:, VALID] - steps)[kept].max() < 0.51
    found = geoml.open(out).embedding
    plane = found.odc.geobox
    row, col = round((plane.affine.f - SCENE.origin[1]) / 10), round((SCENE.origin[0] - plane.affine.c) / 10)
    found = found[:, row : row + SHAPE[0], col : col + SHAPE[1]].values
    np.testing.assert_allclose(found[:, VALID], stored[:, VALID] * scale + offset, rtol=1e-5, atol=1e-6)
    colours = pixels(out, "colours")
    np.testing.assert_array_equal(colours > 0, np.broadcast_to(VALID, colours.shape))


def test_chips_are_the_means_of_their_pixels(run: tuple[str, Path]) -> None:
    _, out = run
    table = geopandas.read_parquet(out / "embeddings.parquet")
    stored = pixels(out, "embedding")
    w = SCENE.window
    y, x = np.nonzero(VALID)
    rows, cols = (y + w.y0) // 32, (x + w.x0) // 32
    assert set(zip(table["row"], table["col"], strict=True)) == set(zip(rows, cols, strict=True))
    to = pyproj.Transformer.from_crs("EPSG:32621", "EPSG:4326", always_xy=True)
    for one in table.itertuples():
        mine = (rows == one.row) & (cols == one.col)
        mean = stored[:, y[mine], x[mine]].mean(axis=1)
        np.testing.assert_array_equal(one.vector, mean.astype(np.float16))
        assert (one.pixels, one.valid) == (mine.sum(), np.float32(mine.sum() / 1024))
        corner = to.transform(one.col * 320, -one.row * 320)  # of the top left
        assert min(shapely.Point(c).distance(shapely.Point(corner)) for c in one.geometry.exterior.coords) < 1e-9
    assert table.crs.to_epsg() == 4326


@pytest.mark.parametrize("size", [64, 100])
def test_any_blocks_give_the_same(run: tuple[str, Path], made: Path, tmp_path: Path, size: int) -> None:
    """Chips of 32 pixels are cut by blocks of 100."""
    model, out = run
    geoml.predict(recipe(model, made, block_size=size), tmp_path)
    for asset in ("embedding", "colours", "valid"):
        np.testing.assert_array_equal(pixels(tmp_path, asset), pixels(out, asset))
    assert (tmp_path / "embeddings.parquet").read_bytes() == (out / "embeddings.parquet").read_bytes()


def test_items_say_how_to_read_it_and_are_valid(run: tuple[str, Path], stac_schemas: ModuleType) -> None:
    _, out = run
    for path in (out / "items").glob("*.json"):
        stac_schemas.validate(json.loads(path.read_text()))
        asset = pystac.Item.from_file(str(path)).assets["embedding"]
        bands = asset.extra_fields["bands"]
        with rasterio.open(path.parent / asset.href) as file:
            assert [(b["raster:scale"], b["raster:offset"]) for b in bands] == list(
                zip(file.scales, file.offsets, strict=True)
            )
    stac_schemas.validate(json.loads((out / "collection.json").read_text()))
    assert "embeddings" in json.loads((out / "collection.json").read_text())["assets"]
    said = json.loads((out / "run.json").read_text())
    assert said["backend"]["precision"] == "fp32"
    assert "no item for 1 of 3 steps: 2024-05" in said["warnings"][0]
    assert "first three principal components" in (out / "report.html").read_text()


def test_a_stopped_run_goes_on_to_the_same_bytes(run: tuple[str, Path], made: Path, tmp_path: Path) -> None:
    model, _ = run
    whole = recipe(model, made, block_size=64)
    geoml.predict(whole, tmp_path)
    before = testing.tree(tmp_path)
    for path in sorted((tmp_path / "items").glob("*.json"))[::2]:
        path.unlink()
    (tmp_path / ".geoml" / "fitted.json").unlink()  # it is measured again, to the same
    (tmp_path / "run.json").unlink()
    geoml.predict(whole, tmp_path)
    again = testing.tree(tmp_path)
    assert before.keys() == again.keys()
    assert {k for k in before if before[k] != again[k]} <= {"run.json", "report.html"}
    (tmp_path / "items" / f"{next((tmp_path / 'items').glob('*.json')).stem}.json").touch()
    assert geoml.predict(whole, tmp_path)["blocks"]["failed"] == {}


def test_embed_and_predict_are_one(made: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    model, box = package(tmp_path), [f"{v:.9f}" for v in SCENE.bbox()]
    words = ["--model", model, "--catalog", made, "--bbox", *box, *(w for m in MONTHS for w in ("--datetime", m))]
    for command in ("embed", "predict"):
        result = cli(command, *words, "--block-size", "256", "--out", tmp_path / command)
        assert result.exit_code == 0, result.output
    one, two = (testing.tree(tmp_path / command) for command in ("embed", "predict"))
    assert one.keys() == two.keys()
    assert {k for k in one if one[k] != two[k]} <= {"run.json", "report.html"}


def test_what_an_encoder_cannot_take_is_refused(made: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    model = package(tmp_path)
    months = [f"{1950 + k}-01" for k in range(25)]
    with pytest.raises(InputError, match="datetime: 25 steps given; small-presto takes 1 to 24"):
        geoml.predict(recipe(model, made, query={"datetime": months}), tmp_path / "out")
    testing.constant_model(tmp_path / "classes", ["red"], ["a", "b"], 0)
    result = cli("embed", "--model", tmp_path / "classes", "--catalog", made, "--bbox", 0, 0, 1, 1, "--datetime",
                 "2024-04", "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 2
    assert "constant is for segmentation; expected an encoder" in result.stderr


def test_values_that_the_encoder_does_not_know_are_refused(made: Path, tmp_path: Path) -> None:
    seen = (DATA[0] * 1e-4).reshape(2, -1)[::-1].T
    usual = package(tmp_path / "usual", profile=fit(seen, "made"))
    run = geoml.predict(recipe(usual, made), tmp_path / "out")
    assert described(run.info).startswith("only scale and order of the bands were compared with the training data")
    assert "Only scale and order of the bands were compared" in (tmp_path / "out" / "report.html").read_text()
    assert run.info["files"]["map.qgz"] == "QGIS project of the layers and the polygons", "the chips"
    other = package(tmp_path / "other", profile=fit(seen * 1e-4, "made"))
    with pytest.raises(ModelError, match="scale: values are"):
        geoml.predict(recipe(other, made), tmp_path / "refused")


# --- geoml similar


@pytest.fixture(scope="module")
def index(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    geoml.predict(recipe(package(folder), made, block_size=100), folder / "out")
    return folder / "out"


def degrees(row: int, col: int) -> tuple[float, float]:
    """The centre of a pixel of the scene."""
    to = pyproj.Transformer.from_crs("EPSG:32621", "EPSG:4326", always_xy=True)
    lon, lat = to.transform(600_000 + 10 * (col + 0.5), 7_200_000 - 10 * (row + 0.5))
    return lon, lat


def standard(index: Path) -> tuple[NDArray[np.float64], geopandas.GeoDataFrame, NDArray[np.float64]]:
    """Stored pixels, the table of chips, and its unit vectors."""
    table = geopandas.read_parquet(index / "embeddings.parquet")
    vectors = np.stack(table["vector"]).astype(np.float64)
    return pixels(index, "embedding").astype(np.float64), table, vectors / np.linalg.norm(vectors, axis=1)[:, None]


def test_a_point_finds_the_chips_that_are_most_like_its_pixel(
    index: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    row, col = 70, 33
    assert VALID[row, col]
    lon, lat = degrees(row, col)
    out = tmp_path / "found.parquet"
    result = cli("similar", "--index", index, "--point", f"{lon:.7f}", f"{lat:.7f}", "--count", 5, "--out", out)
    assert result.exit_code == 0, result.output
    stored, table, units = standard(index)
    query = stored[:, row, col] / np.linalg.norm(stored[:, row, col])
    scores = units @ query
    found = geopandas.read_parquet(out)
    order = np.argsort(-scores, kind="stable")[:5]
    assert found["id"].tolist() == table["id"].iloc[order].tolist()
    np.testing.assert_allclose(found["score"], scores[order], atol=1e-6)
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert found.geometry.iloc[0].equals(table.geometry.iloc[order[0]])
    page = out.with_suffix(".html").read_text()
    assert found["id"].iloc[0] in page
    assert 'src="data:image/png;base64,' in page


def test_a_region_is_the_mean_of_its_pixels(index: Path) -> None:
    corners = [degrees(5, 100), degrees(5, 140), degrees(60, 140), degrees(60, 100)]
    region = shapely.MultiPolygon([shapely.Polygon(corners)])
    there = EmbeddingIndex(index)
    place = there.inside(region, "field.geojson")
    stored, table, units = standard(index)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mine = VALID & (y >= 5) & (y < 60) & (x >= 100) & (x < 140)
    edge = abs(place.pixels - int(mine.sum()))  # the outline passes through the centres of its pixels
    assert edge <= 2 * (55 + 40)
    mean = stored[:, mine].mean(axis=1)
    np.testing.assert_allclose(place.vector, mean, atol=2.0)
    found = there.search(place, 3)
    scores = units @ (place.vector / np.linalg.norm(place.vector))
    assert found.rows["id"].to_pylist() == table["id"].iloc[np.argsort(-scores, kind="stable")[:3]].tolist()
    assert "field.geojson" in place.about


def test_the_token_of_a_region_is_not_shown(
    index: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed, "_remembered", {})
    corners = [degrees(5, 100), degrees(5, 140), degrees(60, 140), degrees(60, 100)]
    frame = geopandas.GeoDataFrame({"cover": [1]}, geometry=[shapely.Polygon(corners)], crs="EPSG:4326")
    with serve(Land=FeatureLayer(frame)) as here:
        here.token = "S3/CRET"
        region = f"{here.url}/Land/FeatureServer/0?token={here.token}"
        told = cli("similar", "--index", index, "--region", region, "--out", tmp_path / "found.parquet")
    assert told.exit_code == 0, told.output
    assert "More like" in told.output
    assert "CRET" not in told.output
    assert [p.name for p in tmp_path.iterdir() if b"CRET" in p.read_bytes()] == []


def test_the_best_pixel_of_a_chip_is_where_it_says(index: Path) -> None:
    row, col = 71, 130
    there = EmbeddingIndex(index)
    found = there.search(there.at(*degrees(row, col)), 4, pixels=True).rows
    assert found["pixel_score"].to_pylist() == sorted(found["pixel_score"].to_pylist(), reverse=True)
    assert found["pixel_score"][0].as_py() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose((found["pixel_lon"][0].as_py(), found["pixel_lat"][0].as_py()), degrees(row, col))


def test_places_without_an_embedding_are_refused_by_name(index: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    there = EmbeddingIndex(index)
    with pytest.raises(InputError, match="point: 10 50 is outside the map; expected a point in its region, -5"):
        there.at(10, 50)
    with pytest.raises(InputError, match=r"point: .* has no data: 0 of 3 steps have a look there"):
        there.at(*degrees(25, 50))
    with pytest.raises(InputError, match="point: 100 95 is not a longitude"):
        there.at(100, 95)
    hole = shapely.MultiPolygon([shapely.Polygon([degrees(y, x) for y, x in ((22, 42), (22, 57), (28, 57), (28, 42))])])
    with pytest.raises(InputError, match=r"region: none of the \d+ pixels of the map inside of hole has an embedding"):
        there.inside(hole, "hole")
    with pytest.raises(InputError, match="region: none of the 0 pixels"):
        there.inside(shapely.MultiPolygon([shapely.box(10, 50, 11, 51)]), "away")
    for words in ([], ["--point", 1, 2, "--region", "x.geojson"]):
        assert "give exactly one" in cli("similar", "--index", index, *words, "--out", tmp_path / "x.parquet").stderr
    assert "ends in .parquet" in cli("similar", "--index", index, "--point", 1, 2, "--out", tmp_path / "x.csv").stderr
    with pytest.raises(InputError, match="contains no run"):
        EmbeddingIndex(tmp_path)


def test_a_damaged_table_is_named(index: Path, tmp_path: Path) -> None:
    import shutil

    copied = shutil.copytree(index, tmp_path / "copied")
    (copied / "embeddings.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"embeddings\.parquet: chips of embeddings are not readable"):
        EmbeddingIndex(copied)
