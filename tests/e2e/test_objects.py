"""Objects on made scenes with known truth: found, found once, and the same rows however the work was cut."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from typer.testing import Result

from geoml import testing
from geoml.testing.objects import RECTANGLES, rectangles, write_boxes
from geoml.vector.boxes import overlapping
from tests.e2e.learnt_rectangles import BANDS, SIDES, training

pytestmark = pytest.mark.slow  # a network learns for a minute

TABLES = ("features.parquet", "summary.parquet")


def scene(height: int, width: int, count: int, seed: int) -> tuple[testing.Scene, NDArray[np.float64]]:
    """An item, and its boxes (n, 5) in pixels of the plane."""
    image, boxes = rectangles((height, width), count, seed=seed, sides=SIDES)
    made = testing.Scene(id="scene", data=image, bands=BANDS, scale=1.0)
    corner = made.window
    return made, boxes + np.array([0, corner.y0, corner.x0, corner.y0, corner.x0], float)


SCENE, TRUTH = scene(520, 680, 130, seed=77)


@pytest.fixture
def run(predict: Callable[..., Path], detector: Path, catalog: Path) -> Callable[..., Path]:
    def predicted(block_size: int, **more: Any) -> Path:
        return predict(str(detector), catalog, SCENE.bbox(), f"out-{block_size}", block_size=block_size, **more)

    return predicted


def bytes_of(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def boxes(out: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 5) of a run as of the truth, and (n,) its confidences."""
    frame = geopandas.read_parquet(out / "features.parquet")
    left, bottom, right, top = frame.geometry.to_crs(SCENE.crs).bounds.to_numpy().T / SCENE.res
    return np.column_stack([frame["class"], -top, left, -bottom, right]), frame["confidence"].to_numpy()


def f1(out: Path, truth: NDArray[np.float64]) -> float:
    """Of boxes of one class that overlap by half."""
    found, _ = boxes(out)
    i, j, _ = overlapping(found[:, 1:], truth[:, 1:], 0.5)
    same = found[i, 0] == truth[j, 0]
    assert len(np.unique(i[same])) == same.sum(), "a box is of one object"
    return 2 * len(np.unique(j[same])) / (len(found) + len(truth))


def test_a_package_knows_how_well_it_finds_what_it_never_saw(detector: Path) -> None:
    card = json.loads((detector / "model.json").read_text())["properties"]
    scores = card["geoml:scores"]
    assert scores["split"] == "test"
    assert scores["f1"] > 0.9
    assert scores["ap50"] > 0.9
    assert scores["nothing"]["f1"] == 0.0
    assert scores["guess"]["f1"] < 0.3
    record = card["geoml:detection"]
    assert record["sizes"]["seen"] == pytest.approx(10 * min(96, 2 * card["geoml:radius"] + 1))
    assert 80 <= record["sizes"]["least"] < record["sizes"]["most"] <= 400
    assert all(0.05 < one["threshold"] < 0.9 for one in record["classes"].values())
    assert set(scores["by_class"]) == set(RECTANGLES)
    assert card["geoml:training"]["boxes"]["train"] == {
        name: sum(int((rectangles((256, 256), 50, seed=k, sides=SIDES)[1][:, 0] == n).sum()) for k in range(10))
        for n, name in enumerate(RECTANGLES)
    }


def test_any_blocks_give_the_same_rows_and_they_are_the_true_ones(run: Callable[..., Path]) -> None:
    out = run(128)
    assert f1(out, TRUTH) > 0.9
    first = bytes_of(out)
    for size in (256, 1024):
        assert bytes_of(run(size)) == first
    assert len(list((out / "items").glob("*.json"))) > 25
    found, _ = boxes(out)
    for axis in (1, 2):  # some lie across the borders of blocks of 128
        assert (found[:, axis] // 128 != found[:, axis + 2] // 128).sum() > 10
    i, j, _ = overlapping(found[:, 1:], found[:, 1:], 0.3)
    assert (i == j).all(), "nothing is found twice"
    rows = pq.read_table(out / "summary.parquet").to_pylist()
    assert sum(r["count"] for r in rows) == len(found)
    assert rows[0]["searched_km2"] == pytest.approx(520 * 680 * 1e-4, rel=2e-3)
    beyond = json.loads((out / "run.json").read_text())["region_pixels"] - 520 * 680  # a box of degrees is wider
    assert rows[0]["unsearched_km2"] == pytest.approx(beyond * 1e-4, rel=0.02)
    assert "Objects" in (out / "report.html").read_text()


def test_confidences_and_counts_hold_on_ground_that_chose_nothing(
    detector: Path, tmp_path: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve scenes of another density; by squares of ground, for both classes."""
    recipe = training(tmp_path)
    for k in range(200, 212):
        image, truth = rectangles((256, 256), 25, seed=k, sides=SIDES)
        place = Affine(10, 0, 600_000 + 5_000 * k, 0, -10, 7_000_000)
        testing.write_cog(tmp_path / "images" / f"held-{k}.tif", image, crs="EPSG:32621", transform=place, nodata=0)
        write_boxes(tmp_path / "boxes" / f"held-{k}.geojson", truth)
    recipe["split"] = {"kind": "files", "val": ["val-*"], "test": ["held-*"]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = cli("evaluate", str(tmp_path / "recipe.yaml"), "--model", str(detector), "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    found = scores["calibration"]
    assert found["calibrated"]
    assert found["d_ece"] < 0.1
    assert found["d_ece_candidates"] < 0.1
    assert abs(found["count_error"]) < 0.15
    assert found["squares"] > 80
    assert found["inside"] / found["squares"] > 0.8
    assert 0 < scores["points"]["rmse"] < 6
    assert scores["ap"] <= scores["ap75"] + scores["ap50"]
    monkeypatch.setenv("COLUMNS", "200")
    said = cli("evaluate", str(tmp_path / "recipe.yaml"), "--model", str(detector)).stdout
    assert f"test split, {scores['truth']} true boxes" in said
    assert "calibrated confidence: D-ECE of what is reported 0." in said
    assert f"contain the true count of {found['inside']} of {found['squares']} squares" in said


def test_a_run_says_how_many_there_are_and_shows_them(run: Callable[..., Path]) -> None:
    out = run(256)
    for row in pq.read_table(out / "summary.parquet").to_pylist():
        real = int((TRUTH[:, 0] == row["class"]).sum())
        assert row["expected"] == pytest.approx(real, rel=0.2)
        assert row["expected_low"] <= row["expected"] <= row["expected_high"]
        assert row["expected_low"] - 0.1 * real <= real <= row["expected_high"] + 0.1 * real
    frame = geopandas.read_parquet(out / "features.parquet")
    assert (frame["confidence"] != frame["score"]).any()
    assert frame.sort_values("score").groupby("class")["confidence"].apply(lambda c: c.is_monotonic_increasing).all()
    page = (out / "report.html").read_text()
    assert "Precision and recall" in page
    assert "Reliability" in page
    picture = re.search(r'src="data:image/png;base64,([^"]+)" alt="Boxes of objects', page)
    assert picture is not None
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture[1]))).convert("RGBA"))[..., :3].astype(int)
    for color in ([227, 26, 28], [31, 120, 180]):
        assert (drawn == color).all(-1).sum() > 200
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20, "over the image"


def test_the_largest_things_that_fit_a_chip_are_found(run: Callable[..., Path]) -> None:
    """Most of them: which one is missed hangs on the training, and so on the processor."""
    sizes = np.minimum(TRUTH[:, 3] - TRUTH[:, 1], TRUTH[:, 4] - TRUTH[:, 2])
    large = TRUTH[np.argsort(sizes)[-10:]]
    assert sizes.max() > 30
    found, _ = boxes(run(256))
    _, j, share = overlapping(found[:, 1:], large[:, 1:], 0.5)
    assert len(set(j)) >= 8, share


def test_a_killed_run_goes_on_to_the_same_rows(
    run: Callable[..., Path],
    kill: Callable[..., None],
    cli: Callable[..., Result],
    detector: Path,
    catalog: Path,
    tmp_path: Path,
) -> None:
    killed, box = tmp_path / "killed", [f"{v:.17g}" for v in SCENE.bbox()]
    words = [
        "predict", "--model", str(detector), "--catalog", str(catalog), "--bbox", *box,
        "--datetime", "2020/2026", "--out", str(killed), "--block-size", "128",
    ]  # fmt: skip
    kill(words, killed)
    assert not (killed / "features.parquet").exists()
    assert cli(*words).exit_code == 0
    assert bytes_of(killed) == bytes_of(run(128))


def test_a_large_scene_in_all_ways(
    detector: Path, machine: Callable[..., None], tmp_path: Path, predict: Callable[..., Path]
) -> None:
    """Blocks of 4096 and 512 by one process, and of 1024 by three."""
    large, truth = scene(1500, 1900, 900, seed=78)
    catalog = testing.write_catalog(tmp_path / "made", [large])
    first = None
    for size, workers in ((4096, "here"), (512, "here"), (1024, "processes:3")):
        machine(workers=workers, precision="fp32", device="cpu", threads=1)
        out = predict(str(detector), catalog, large.bbox(), str(size), block_size=size)
        first = first or bytes_of(out)
        assert bytes_of(out) == first, (size, workers)
        assert f1(out, truth) > 0.9
