"""Objects of all sizes in one run, by a pyramid: as many as there are, and the same rows however the work was cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from typer.testing import Result

from geoml import testing
from geoml.testing.objects import RECTANGLES, rectangle_model, rectangles_apart
from geoml.vector.boxes import overlapping

TABLES = ("features.parquet", "summary.parquet")
BANDS = ("red", "nir")
REACH = 24
Boxes = NDArray[np.float64]


def scene(side: int, longer: Boxes) -> tuple[testing.Scene, Boxes]:
    """An item of pixels of 1 m, and its boxes (n, 5) in pixels of the plane."""
    image, boxes = rectangles_apart((side, side), longer, seed=1)
    made = testing.Scene(id="scene", data=image, bands=BANDS, scale=1.0, res=1.0)
    corner = made.window
    return made, boxes + np.array([0, corner.y0, corner.x0, corner.y0, corner.x0], float)


SCENE, TRUTH = scene(700, np.geomspace(8, 170, 16))


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sees 49 pixels at once."""
    folder = tmp_path_factory.mktemp("finder") / "model"
    rectangle_model(folder, BANDS, REACH, gsd=1.0)
    return str(folder)


def bytes_of(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def check_truth(out: Path, made: testing.Scene, truth: Boxes) -> None:
    """As many objects as there are, and each of them is one of them."""
    frame = geopandas.read_parquet(out / "features.parquet")
    left, bottom, right, top = frame.geometry.to_crs(made.crs).bounds.to_numpy().T / made.res
    found = np.column_stack([frame["class"], -top, left, -bottom, right])
    i, j, _ = overlapping(found[:, 1:], truth[:, 1:], 0.5)
    same = found[i, 0] == truth[j, 0]
    assert len(found) == len(truth)
    assert sorted(j[same].tolist()) == list(range(len(truth)))
    assert frame["id"].is_unique
    counts = {r["name"]: r["count"] for r in pq.read_table(out / "summary.parquet").to_pylist()}
    assert counts == {name: int((truth[:, 0] == k).sum()) for k, name in enumerate(RECTANGLES)}


def test_a_run_finds_what_is_larger_than_a_chip_and_says_how(
    predict: Callable[..., Path], cli: Callable[..., Result], finder: str, catalog: Path, tmp_path: Path
) -> None:
    out = predict(finder, catalog, SCENE.bbox(), "whole", block_size=1024, pyramid=[4])
    check_truth(out, SCENE, TRUTH)
    box = [f"{v:.17g}" for v in SCENE.bbox()]
    words = ["--catalog", catalog, "--bbox", *box, "--datetime", "2020/2026", "--block-size", 256, "--pyramid", 4]
    result = cli("predict", "--model", finder, *words, "--out", tmp_path / "cut")
    assert result.exit_code == 0, result.stderr
    assert bytes_of(tmp_path / "cut") == bytes_of(out)
    run, cut = (json.loads((o / "run.json").read_text()) for o in (out, tmp_path / "cut"))
    assert len(run["blocks"]["done"]) < len(cut["blocks"]["done"])
    assert run["recipe"]["pyramid"] == [4]
    assert run["pyramid"] == cut["pyramid"] == [
        {"factor": 1, "gsd": 1, "least_m": 8, "most_m": 48}, {"factor": 4, "gsd": 4, "least_m": 32, "most_m": 192},
    ]  # fmt: skip
    assert run["warnings"] == []
    for row in pq.read_table(out / "summary.parquet").to_pylist():
        assert (row["least_m"], row["most_m"], row["pyramid"]) == (8, 192, [4])
    page = (out / "report.html").read_text()
    assert "in pixels of 1 m (8 to 48 m), 4 m (32 to 192 m)" in page
    levels = set(geopandas.read_parquet(out / "features.parquet")["id"].str.extract(r"(_k4)?_2024")[0].fillna(""))
    assert levels == {"", "_k4"}


def test_without_it_nothing_has_changed(predict: Callable[..., Path], finder: str, catalog: Path) -> None:
    out = predict(finder, catalog, SCENE.bbox(), block_size=1024)
    assert "pyramid" not in json.loads((out / "run.json").read_text())
    rows = pq.read_table(out / "summary.parquet").to_pylist()
    assert [r["pyramid"] for r in rows] == [[], []]
    assert sum(r["count"] for r in rows) > len(TRUTH) + 10, "corners of large ones"
    assert not geopandas.read_parquet(out / "features.parquet")["id"].str.contains("_k").any()


@pytest.mark.slow
def test_two_thousand_objects_of_8_to_600_pixels(
    predict: Callable[..., Path],
    kill: Callable[..., None],
    cli: Callable[..., Result],
    machine: Callable[..., None],
    finder: str,
    tmp_path: Path,
) -> None:
    """Blocks of 4096, of 512 by three processes, of 1024 killed and resumed, and by another corner."""
    share = np.random.default_rng(1).random(2000)
    longer = 1 / (1 / 8 - share * (1 / 8 - 1 / 600))  # of twice the size there are a quarter as many
    longer[:2] = 8, 600
    large, truth = scene(5000, longer)
    catalog = testing.write_catalog(tmp_path / "made", [large])
    how: dict[str, Any] = {"pyramid": [4, 16]}
    out = predict(finder, catalog, large.bbox(), "4096", block_size=4096, **how)
    check_truth(out, large, truth)
    first = bytes_of(out)
    machine(workers="processes:3", precision="fp32", device="cpu", threads=1)
    assert bytes_of(predict(finder, catalog, large.bbox(), "512", block_size=512, **how)) == first
    machine(workers="here", precision="fp32", device="cpu", threads=1)
    killed, box = tmp_path / "killed", [f"{v:.17g}" for v in large.bbox()]
    words = [
        "predict", "--model", finder, "--catalog", str(catalog), "--bbox", *box, "--datetime", "2020/2026",
        "--out", str(killed), "--block-size", "1024", "--pyramid", "4", "--pyramid", "16",
    ]  # fmt: skip
    kill(words, killed)
    assert not (killed / "features.parquet").exists()
    assert cli(*words).exit_code == 0
    assert bytes_of(killed) == first
    west, south, east, north = large.bbox()
    moved = predict(
        finder, catalog, (west - 0.003, south - 0.002, east, north + 0.001), "moved", block_size=1024, **how
    )
    # whether a box is cut by the region is another question
    ours, theirs = (geopandas.read_parquet(o / "features.parquet").drop(columns="edge") for o in (out, moved))
    assert theirs.equals(ours)


@pytest.mark.slow
def test_a_network_that_learnt_small_ones_finds_large_ones(
    predict: Callable[..., Path], detector: Path, tmp_path: Path
) -> None:
    """It learnt sides of 8 to 40 pixels, with a rim of one, which coarse pixels do not show."""
    share = np.random.default_rng(5).random(250)
    image, boxes = rectangles_apart((2000, 2000), 1 / (1 / 8 - share * (1 / 8 - 1 / 300)), seed=5, rim=True)
    made = testing.Scene(id="scene", data=image, bands=BANDS, scale=1.0)
    corner = made.window
    truth = boxes + np.array([0, corner.y0, corner.x0, corner.y0, corner.x0], float)
    longer = np.maximum(truth[:, 3] - truth[:, 1], truth[:, 4] - truth[:, 2])
    catalog = testing.write_catalog(tmp_path / "made", [made])
    missed, wrong = {}, {}
    for factors in ((), (2, 4, 8)):
        out = predict(str(detector), catalog, made.bbox(), f"{len(factors)}", pyramid=factors, out_of_domain="allow")
        frame = geopandas.read_parquet(out / "features.parquet")
        left, bottom, right, top = frame.geometry.to_crs(made.crs).bounds.to_numpy().T / made.res
        i, j, _ = overlapping(np.column_stack([-top, left, -bottom, right]), truth[:, 1:], 0.5)
        same = frame["class"].to_numpy()[i] == truth[j, 0]
        missed[factors] = np.delete(longer, j[same])
        wrong[factors] = len(frame) - same.sum()
    large = {k: int((v > 48).sum()) for k, v in missed.items()}
    assert large[()] > 20
    assert large[2, 4, 8] <= 3
    assert wrong[2, 4, 8] < 0.2 * wrong[()]
