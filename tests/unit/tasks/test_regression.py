"""A map of heights from command to COG, learnt from made scenes whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine

from geoml import pipeline, testing
from geoml.engine.packages import cards
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.outputs.quantity import NODATA
from geoml.tasks._linear import linear
from geoml.tasks.regression import Task

PLACE = {"crs": "EPSG:32621", "nodata": -9999.0}


def write(path, data, column):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"width": data.shape[2], "height": data.shape[1], "count": len(data), "dtype": "float32"}
    place = {**PLACE, "transform": Affine(10, 0, 600_000 + column * 5000, 0, -10, 7_000_000)}
    with rasterio.open(path, "w", driver="GTiff", **size, **place) as dst:
        dst.write(data.astype(np.float32))


@pytest.fixture
def recipe(tmp_path):
    """Height is the product of the bands: what no linear regression finds. Some is not known."""
    folder = tmp_path / "data"
    for column, name in enumerate(["a0", "a1", "a2", "v0", "t0"]):
        rng = np.random.default_rng(column)
        one, two = (np.kron(rng.uniform(-1, 1, (6, 6)), np.ones((8, 8))) for _ in range(2))
        height = 10 + 8 * one * two
        height[:4] = -9999
        write(folder / name / "one.tif", one[None], column)
        write(folder / name / "two.tif", two[None], column)
        write(folder / name / "height.tif", height[None], column)
    return {
        "name": "heights",
        "task": "regression",
        "quantity": "height",
        "unit": "m",
        "step": 0.05,
        "model": {"architecture": "unet", "config": {"depth": 3, "decoder_channels": [16, 16, 16]}},
        "bands": ["one", "two"],
        "gsd": 10,
        "source": {
            "kind": "band_files",
            "root": str(folder),
            "images": "{id}/{band}.tif",
            "labels": "{id}/height.tif",
            "file_bands": ["one", "two"],
        },
        "split": {"kind": "files", "val": ["v*"], "test": ["t*"]},
        "sampling": {"samples": 24},
        "optimiser": {"lr": 0.01},
        "epochs": 12,
        "batch": 8,
        "chip_size": 32,
        "precision": "fp32",
    }


@pytest.mark.slow
def test_what_is_learnt_is_better_than_nothing_and_than_a_line(recipe, tmp_path):
    rows = []
    out = pipeline.train(recipe, tmp_path / "m", on_epoch=rows.append)
    card = cards.read(out, MapCard)
    assert rows[-1]["best"] == min(row["mae"] for row in rows) == card.training["val_mae"]
    assert card.made["mean"] == pytest.approx(card.training["target"]["mean"])
    assert (card.classes, card.channels) == ((), 2)
    scores = card.scores
    assert json.loads(json.dumps(scores)) == scores
    assert scores["pixels"] == 44 * 48
    assert scores["mae"] < 0.8 * min(scores["baseline"]["mae"], scores["linear"]["mae"])
    assert pipeline.evaluate(out, recipe)["mae"] == scores["mae"]
    with pytest.raises(InputError, match="unit: the model maps m"):
        pipeline.evaluate(out, {**recipe, "unit": "ft"})
    said = Task.table(scores)[0]
    assert [row[0] for row in said.rows] == ["model", "median of train", "linear regression"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_the_map_is_a_cog_of_values_and_their_spread_however_it_is_cut(recipe, tmp_path, dtype):
    made = {**recipe, "epochs": 1, "dtype": dtype}
    pipeline.train(made, tmp_path / "m")
    random = np.random.default_rng(0)
    data = np.kron(random.uniform(-1, 1, (2, 20, 20)), np.ones((8, 8))).astype(np.float32)
    data[:, :10] = -9999
    scene = testing.Scene(id="s", data=data, bands=("one", "two"), nodata=-9999, scale=1)
    testing.write_catalog(tmp_path / "made", [scene])
    maps = []
    for size in (64, 512):
        query = {"catalog": str(tmp_path / "made"), "bbox": scene.bbox(), "datetime": "2024"}
        out = tmp_path / str(size)
        pipeline.predict({"model": str(tmp_path / "m"), "block_size": size, "query": query}, out)
        read = (testing.read_map(out, key, fill=NODATA[dtype])["EPSG:32621"] for key in ("value", "spread"))
        maps.append({key: whole.part(scene.window)[0] for key, whole in zip(("value", "spread"), read, strict=True)})
    report = (tmp_path / "64" / "report.html").read_text(encoding="utf-8")
    assert "mean height" in report
    item = pystac.Item.from_file(str(next((tmp_path / "512" / "items").glob("*.json"))))
    band = item.assets["value"].extra_fields["bands"][0]
    assert (band["unit"], band["data_type"], band.get("raster:scale", 1.0)) == (
        "m", dtype, 0.05 if dtype == "int16" else 1.0,
    )  # fmt: skip
    for key in ("value", "spread"):
        one, two = maps[0][key], maps[1][key]
        assert (one[:9] == band["nodata"]).all()
        known = two != band["nodata"]
        np.testing.assert_array_equal(one != band["nodata"], known)
        assert known.mean() > 0.9
        assert np.abs(one[known].astype(float) - two[known]).max() <= (1 if dtype == "int16" else 1e-3)
    assert (maps[0]["spread"][known] > 0).all()


def test_least_squares_finds_a_line(recipe):
    from geoml.data.prepare import prepare
    from geoml.data.scene import LabelledScene, Piece, Sample

    assert prepare(pipeline.training(recipe)[1])["test"]
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (2, 20, 20))
    target = (3 + 2 * image[0] - image[1]).astype(np.float32)
    target[0] = np.nan
    sample = Sample(image, np.ones((20, 20), bool), target)
    scene = LabelledScene("made", (20, 20), lambda: sample)
    found = linear(
        [Piece(scene, scene.window, "train")], [Piece(scene, scene.window, "test")], lambda s: s.read(), 0.01
    )
    assert found["pixels"] == 380
    assert found["mae"] < 0.001
    assert found["r2"] == pytest.approx(1)
