"""Forecasts of a made radar: known motion, any cut and any worker, what comes later, gaps, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from geoml import pipeline, testing
from geoml.engine.packages import package
from geoml.errors import InputError, NothingFound
from geoml.forecasting import steps
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.io.cards.map_card import Band
from geoml.testing.radar import START, showers, time_of, write_radar
from tests.e2e.printed import Cli, prints

NOW = 11
LEADS = ("PT10M", "PT20M", "PT30M")
SHAPE = (120, 160)
UNKNOWN = (slice(100, 120), slice(0, 30))


@pytest.fixture(scope="module")
def truth() -> NDArray[np.float32]:
    return showers(range(NOW + 7), SHAPE)


@pytest.fixture(scope="module")
def radar(truth: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a folder that goes on after the reference time."""
    frames = truth.copy()
    frames[:, *UNKNOWN] = np.nan
    return write_radar(tmp_path_factory.mktemp("radar") / "rain", frames)


def run(radar: Path, out: Path | str, model: str | Path = "advection", **changes: Any) -> dict[str, Any]:
    given = {"model": str(model), "cube": str(radar.with_suffix("")), "reads": str(radar), "leads": LEADS}
    asked = ForecastRunRecipe.model_validate({**given, "reference_time": time_of(NOW), "block_size": 64, **changes})
    return pipeline.predict(steps.grid_run(asked, out), out)


@pytest.fixture(scope="module")
def done(radar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, which nothing changes."""
    run(radar, out := tmp_path_factory.mktemp("done") / "run")
    return out


def forecast(out: Path, lead: str, band: int = 1) -> NDArray[np.float32]:
    """(y, x) on the grid of the radar, NaN where nothing is said."""
    found = np.full(SHAPE, np.nan, np.float32)
    for path in out.glob(f"cogs/*/lead_{lead}.tif"):
        with rasterio.open(path) as file:
            values = np.where(file.read_masks(band) > 0, file.read(band) * file.scales[band - 1], np.nan)
            y, x = round((3_000_000 - file.transform.f) / 1000), round((file.transform.c - 4_000_000) / 1000)
        here = slice(max(y, 0), min(y + 64, SHAPE[0])), slice(max(x, 0), min(x + 64, SHAPE[1]))
        if here[0].start < here[0].stop and here[1].start < here[1].stop:
            found[here] = values[here[0].start - y : here[0].stop - y, here[1].start - x : here[1].stop - x]
    return found


def bytes_of(out: Path, size: int) -> dict[tuple[str, int, int], bytes]:
    """Stored values by lead and place in squares of 64 pixels of the plane, for any size of blocks."""
    found = {}
    for path in out.glob("cogs/*/lead_*.tif"):
        with rasterio.open(path) as file:
            values = file.read()
            y, x = round(-file.transform.f / 1000), round(file.transform.c / 1000)
        for i in range(0, size, 64):
            for j in range(0, size, 64):
                found[path.stem, y + i, x + j] = values[:, i : i + 64, j : j + 64].tobytes()
    return found


def test_showers_that_move_are_foretold_where_they_will_be(
    radar: Path, done: Path, truth: NDArray[np.float32], tmp_path: Path
) -> None:
    run(radar, tmp_path / "stay", "persistence")
    for lead, ahead in zip(LEADS, (2, 4, 6), strict=True):
        found, seen = forecast(done, lead), truth[NOW + ahead]
        known = np.isfinite(found)
        assert known.mean() > 0.6
        error, stays = np.abs(found - seen)[known].mean(), np.abs(truth[NOW] - seen)[known].mean()
        assert error < 0.25 * stays, f"{lead}: {error} beside {stays} of persistence"
        kept = forecast(tmp_path / "stay", lead)
        np.testing.assert_allclose(kept[:90], truth[NOW][:90], atol=0.006)
    # showers come from the east, so nothing is known of what was beyond it
    assert np.isfinite(forecast(done, "PT30M")[:, -5:]).mean() < 0.2
    assert not np.isfinite(forecast(tmp_path / "stay", "PT30M")[UNKNOWN]).any()


def test_the_answer_does_not_hang_on_blocks_or_workers(
    radar: Path, done: Path, tmp_path: Path, machine: Callable[..., None]
) -> None:
    run(radar, tmp_path / "large", block_size=256)
    machine(workers="processes:3")
    run(radar, tmp_path / "workers")
    small, large, workers = (
        bytes_of(k, n) for k, n in ((done, 64), (tmp_path / "large", 256), (tmp_path / "workers", 64))
    )
    assert len(small) > 12
    assert small == workers
    assert all(large[place] == values for place, values in small.items())


def test_a_catalog_of_steps_is_forecast_by_predict(done: Path, tmp_path: Path) -> None:
    state = done / ".geoml"
    middles = [f"{START + dt.timedelta(minutes=5 * n - 2.5):%FT%TZ}" for n in range(NOW - 3, NOW + 1)]
    query = {"catalog": str(state / "steps/catalog.json"), "region": str(state / "grid.geojson"), "datetime": middles}
    asked = {"model": str(state / "forecast"), "crs": "data", "block_size": 64, "query": query}
    pipeline.predict(asked, tmp_path / "predicted")
    assert bytes_of(tmp_path / "predicted", 64) == bytes_of(done, 64)


def test_nothing_after_the_reference_time_changes_a_byte(
    truth: NDArray[np.float32], done: Path, tmp_path: Path
) -> None:
    changed = truth.copy()
    changed[:, *UNKNOWN] = np.nan
    changed[NOW + 1 :] = 150
    other = write_radar(tmp_path / "changed", changed)
    first, second = sorted((tmp_path / "changed").glob("*.tif"))[NOW + 1 : NOW + 3]
    first.write_text("damaged")
    second.rename(second.with_name(second.name.replace("0.tif", "1.tif").replace("5.tif", "6.tif")))
    run(other, tmp_path / "after")
    assert bytes_of(done, 64) == bytes_of(tmp_path / "after", 64)


def test_items_say_of_when_they_are_and_when_they_were_made(done: Path, stac_schemas: Any) -> None:
    items = [json.loads(path.read_text()) for path in (done / "items").glob("*.json")]
    assert items
    for item in items:
        assert any("forecast/v0.2.0" in uri for uri in stac_schemas.validate(item))
        assert item["properties"]["forecast:reference_datetime"] == time_of(NOW)
        assert item["properties"]["start_datetime"] == time_of(NOW + 2)
        assert item["properties"]["end_datetime"] == time_of(NOW + 6)
        asset = item["assets"]["lead_PT20M"]
        assert asset["datetime"] == time_of(NOW + 4)
        assert (asset["forecast:horizon"], asset["forecast:duration"]) == ("PT20M", "PT5M")
        assert asset["bands"][0]["unit"] == "mm/h"
    stac_schemas.validate(json.loads((done / "collection.json").read_text()))


def test_a_missing_step_stays_missing_and_a_missing_last_one_is_refused(radar: Path, tmp_path: Path) -> None:
    frames = sorted(radar.with_suffix("").glob("*.tif"))
    some = tmp_path / "some"
    some.mkdir()
    for k, path in enumerate(frames):
        if k != NOW - 1:
            (some / path.name).symlink_to(path)
    spec = some.with_suffix(".yaml")
    spec.write_text(radar.read_text())
    record = run(spec, tmp_path / "run", "persistence")
    assert any("no item for 1 of 4 steps" in words for words in record["warnings"])
    with pytest.raises(
        NothingFound, match=rf"no step of {time_of(NOW - 1)}; the latest before it is of {time_of(NOW - 2)}"
    ):
        run(spec, tmp_path / "stale", "persistence", reference_time=time_of(NOW - 1))
    with pytest.raises(InputError, match="lies between steps of PT5M"):
        run(spec, tmp_path / "between", reference_time="2024-06-01T12:52:00Z")
    with pytest.raises(InputError, match="is in the future"):
        run(spec, tmp_path / "future", reference_time="2999-01-01T00:00:00Z")
    with pytest.raises(InputError, match="not a multiple of the step"):
        run(spec, tmp_path / "leads", leads=["PT7M"])
    with pytest.raises(InputError, match="expected RFC 3339"):
        run(spec, tmp_path / "text", reference_time="noon")
    with pytest.raises(InputError, match="keeps its steps beside it"):
        run(spec, "s3://bucket/run")
    with pytest.raises(ValueError, match="zone, step: of a table; expected no such option with a cube"):
        run(spec, tmp_path / "table", step="PT5M", zone="UTC")
    with pytest.raises(InputError, match=r"model: damped has to be trained; .* persistence, advection"):
        run(spec, tmp_path / "model", "damped")
    with pytest.raises(InputError, match="reads: 'knmi' is not known; did you mean 'knmi-radar'"):
        run(spec, tmp_path / "reads", reads="knmi")
    empty = write_radar(tmp_path / "empty", np.full((4, *SHAPE), np.nan, np.float32), NOW - 3)
    for model in ("persistence", "advection"):
        with pytest.raises(NothingFound):
            run(empty, tmp_path / f"empty-{model}", model)
    again = run(spec, tmp_path / "run", "persistence", block_size=64)
    assert again["blocks"] == record["blocks"]
    with pytest.raises(InputError, match="contains a different forecast: leads is"):
        run(spec, tmp_path / "run", "persistence", leads=["PT10M"])


@prints("forecast")
def test_what_is_printed_names_the_files(cli: Cli, radar: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = cli(
        "forecast", "--model", "advection", "--cube", radar.with_suffix(""), "--reads", radar, "--reference-time",
        time_of(NOW), "--leads", "PT10M,PT30M", "--out", out,
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "rainfall_rate at each lead" in said.output
    assert {p.name for p in out.glob("cogs/*/lead_*")} == {"lead_PT10M.tif", "lead_PT30M.tif"}
    page = (out / "report.html").read_text()
    assert "30M ahead" in page
    assert "known at 2024-06-01 12:55:00 UTC" in page
    assert "it was not scored on later data" in page


def test_a_network_that_sees_around_itself_gives_the_same_bytes_for_any_blocks(radar: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    leads = (2, 6)
    terms = {
        "variable": "rainfall_rate", "unit": "mm/h", "step": "PT5M", "history": 3, "leads": ["PT10M", "PT30M"],
        "quantiles": [0.1, 0.5, 0.9], "transform": "log", "floor": 0.0, "advected": True, "accumulated": True,
    }  # fmt: skip
    card = testing.card(
        "net", [Band(name="rainfall_rate", mean=1.0, std=2.0, unit="mm/h")], [], task="grid_forecast", gsd=1000.0,
        architecture="convlstm", dates=5, channels=6, made=terms, float32=True,
        config={"history": 3, "leads": list(leads), "levels": [0.1, 0.5, 0.9], "guess": True, "width": 8, "patch": 2},
    )  # fmt: skip
    net = package.build(card)
    with torch.no_grad():
        for weight in net.parameters():
            weight += 0.3 * torch.randn_like(weight)
    package.save(net, card, tmp_path / "net")
    for size in (64, 256):
        run(radar, tmp_path / str(size), tmp_path / "net", block_size=size, leads=["PT10M", "PT30M"])
    small, large = (bytes_of(tmp_path / str(n), n) for n in (64, 256))
    assert all(large[place] == values for place, values in small.items())
    low, middle, high = (forecast(tmp_path / "64", "PT30M", band) for band in (1, 2, 3))
    known = np.isfinite(middle)
    assert known.mean() > 0.5
    assert ((low <= middle) & (middle <= high))[known].all()
    assert (high > low)[known].mean() > 0.1


def test_cells_that_hear_their_neighbours_are_trained_and_give_the_same_bytes_for_any_blocks(
    radar: Path, tmp_path: Path
) -> None:
    recipe = {
        "name": "cells", "task": "forecast", "architecture": "graph", "config": {"hidden": 8, "reach": 3, "kernels": 2},
        "source": {"kind": "cube", "path": str(radar.with_suffix("")), "cube": str(radar), "floor": 0},
        "history": 3, "leads": ["PT5M"], "background": True, "epochs": 1, "samples": 8, "batch": 4, "chip_size": 32,
        "split": {"train": "2024-06-01T12:10/2024-06-01T12:20", "val": "2024-06-01T12:45", "test": "2024-06-01T13:10"},
    }  # fmt: skip
    pipeline.train(recipe, tmp_path / "net")
    assert (tmp_path / "net" / "climatology.tif").is_file()
    for size in (64, 256):
        run(radar, tmp_path / str(size), tmp_path / "net", block_size=size, leads=["PT5M"])
    small, large = (bytes_of(tmp_path / str(n), n) for n in (64, 256))
    assert len(small) > 4
    assert all(large[place] == values for place, values in small.items())
    known = np.isfinite(forecast(tmp_path / "64", "PT5M", 4))
    assert known.mean() > 0.9
    assert not known[UNKNOWN].any(), "nothing is said where nothing is seen"


@prints("verify")
def test_what_came_true_is_scored_by_lead(cli: Cli, radar: Path, truth: NDArray[np.float32], tmp_path: Path) -> None:
    out, now = tmp_path / "run", NOW + 2
    run(radar, out, reference_time=time_of(now))
    told = cli("verify", out)
    assert told.exit_code == 0, told.output
    assert "not known yet, or nothing was forecast: PT30M" in told.output
    other = cli("verify", out, "--table", "rain.csv")
    assert other.exit_code == 2
    assert "table: " in other.output
    rows = {row["lead"]: row for row in pq.read_table(out / "verification.parquet").to_pylist()}
    assert list(rows) == list(LEADS)
    found, seen = forecast(out, "PT20M"), truth[now + 4].copy()
    seen[UNKNOWN] = np.nan
    known = np.isfinite(found) & np.isfinite(seen)
    mae = float(np.abs(found - seen)[known].mean())
    assert rows["PT20M"]["mae"] == pytest.approx(mae, rel=1e-4)
    assert f"{mae:.3f}" in told.output
    assert rows["PT20M"]["n"] == known.sum()
    assert rows["PT20M"]["skill"] > 0.5
    assert rows["PT30M"]["n"] == 0
    assert rows["PT30M"]["mae"] is None
    with pytest.raises(InputError, match="contains no forecast"):
        steps.verify(tmp_path)
