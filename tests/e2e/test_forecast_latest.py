"""Forecasts of what was last known of each pixel between clouds: a made patch, whose anomalies decay as is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from numpy.typing import NDArray

from geoml import pipeline
from geoml.engine.packages import package
from geoml.errors import InputError, NothingFound
from geoml.forecasting import steps
from geoml.forecasting.recipe import ForecastRunRecipe
from tests import made_patch
from tests.made_patch import LEFT, NEVER, SHAPE, THIN, Patch, time_of

LEADS = ("P5D", "P20D")


@pytest.fixture(scope="module")
def patch() -> Patch:
    return made_patch.patch()


@pytest.fixture(scope="module")
def folder(patch: Patch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_patch.write(patch, tmp_path_factory.mktemp("patches") / "patch")


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "greenness"
    pipeline.train(made_patch.recipe(folder), out)
    return out


@pytest.fixture(scope="module")
def day(patch: Patch) -> int:
    """A reference time without an image."""
    return int(patch.days[-12]) + 3


@pytest.fixture(scope="module")
def done(model: Path, folder: Path, day: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from then."""
    out = tmp_path_factory.mktemp("runs") / "run"
    run(model, folder, out, day)
    return out


def run(model: Path, folder: Path, out: Path, day: int, **changed: Any) -> dict[str, Any]:
    asked = ForecastRunRecipe.model_validate(
        {"model": str(model), "cube": str(folder), "reference_time": time_of(day), "leads": LEADS, **changed}
    )
    return pipeline.predict(steps.grid_run(asked, out), out)


def layer(out: Path, name: str) -> NDArray[np.float32]:
    """(band, y, x) on the grid of the patch, NaN where nothing is said."""
    found = np.full((7 if "lead" in name else 1, *SHAPE), np.nan, np.float32)
    for path in out.glob(f"cogs/*/{name}.tif"):
        with rasterio.open(path) as file:
            row, column = file.index(500_005, 5_199_995)
            window = rasterio.windows.Window(column, row, SHAPE[1], SHAPE[0])
            values = file.read(window=window, masked=True, boundless=True) * file.scales[0]
        found = np.where(np.isnan(found), np.ma.filled(values.astype(np.float32), np.nan), found)
    return found


def last_clear(patch: Patch, day: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value and age of each pixel on a day, by a loop."""
    value, age = np.full(SHAPE, np.nan), np.full(SHAPE, np.nan)
    for when, frame, cloud in zip(patch.days, patch.ndvi, patch.clouds, strict=True):
        if day - 40 < when <= day:
            value[~cloud], age[~cloud] = frame[~cloud], day - when
    return value, age


def test_anomalies_decay_with_the_time_since_a_place_was_clear(folder: Path, model: Path) -> None:
    module: Any = package.load(model).module
    for knot in (3, 4, 5):
        assert float(module.phi[knot]) == pytest.approx(LEFT ** (2**knot), abs=0.12)
    scores = pipeline.evaluate(model, made_patch.recipe(folder))
    assert list(scores["skill"]) == ["P10D", "P40D"]
    best = [0.1 * (1 - LEFT ** (2 * days)) ** 0.5 for days in (7.5, 25)]
    for row, least in zip(scores["skill"], best, strict=True):
        mine = scores["methods"]["greenness"]["leads"][row]
        assert mine["rmse"] == pytest.approx(least, rel=0.2)
        assert mine["rmse"] < min(scores["methods"][m]["leads"][row]["rmse"] for m in ("persistence", "climatology"))
        assert mine["coverage"]["90"] == pytest.approx(0.9, abs=0.05)


def test_a_run_says_how_old_what_it_knew_was_and_nothing_where_it_knew_too_little(
    patch: Patch, day: int, done: Path
) -> None:
    age, ahead = layer(done, "age")[0], layer(done, "lead_P5D")
    value, old = last_clear(patch, day)
    np.testing.assert_array_equal(age, old)
    assert np.isnan(age[NEVER]).all()
    assert np.isnan(ahead[:, *NEVER]).all()
    assert np.isnan(ahead[:, *THIN]).all(), "three clear days are no climatology"
    said = np.isfinite(value)
    said[THIN] = False
    assert (np.isfinite(ahead) == said).all()
    low, middle, high = ahead[[0, 3, 6]]
    assert (low < middle)[said].all()
    usual = 0.5 + 0.2 * np.sin(2 * np.pi * (day + 5) / 365.2425)
    then = 0.5 + 0.2 * np.sin(2 * np.pi * (day - old[said]) / 365.2425)
    known = usual + LEFT ** (old[said] + 5) * (value[said] - then)
    assert np.abs(middle[said] - known).mean() < 0.03, "as the process that made it says"
    older = old[said] > 15
    assert (high - low)[said][older].mean() > 1.2 * (high - low)[said][~older].mean()
    page = (done / "report.html").read_text()
    assert "age of the last known value at the reference time" in page
    assert "compared with the simple methods, by the time since the last known value" in page
    steps.verify(done)
    rows = {row["lead"]: row for row in pq.read_table(done / "verification.parquet").to_pylist()}
    assert list(rows) == list(LEADS)
    assert any(row["n"] for row in rows.values()) or not {day + 5, day + 20} & set(patch.days.tolist())


def test_blocks_and_what_comes_later_change_no_byte(
    patch: Patch, day: int, done: Path, model: Path, tmp_path: Path
) -> None:
    later = patch.days > day
    ndvi, clouds = patch.ndvi.copy(), patch.clouds.copy()
    ndvi[later], clouds[later] = 9.0, False
    other = made_patch.write(Patch(patch.days, ndvi, clouds), tmp_path / "other")
    run(model, other, tmp_path / "later", day, block_size=64)
    for name in ("age", *(f"lead_{lead}" for lead in LEADS)):
        np.testing.assert_array_equal(layer(done, name), layer(tmp_path / "later", name))


def test_what_does_not_fit_is_refused(folder: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingFound, match="nothing is known in the 40 steps"):
        run(model, folder, tmp_path / "old", 990)
    split = {"train": "2021-01/2021-08-22", "test": "2020-01/2020-12"}
    with pytest.raises(InputError, match=r"test begins at 2020-01-01.*before train ends"):
        pipeline.train(made_patch.recipe(folder, split=split), tmp_path / "turned")
    with pytest.raises(InputError, match="convlstm is trained; latest needs a model that is not"):
        pipeline.train(made_patch.recipe(folder, architecture="convlstm", background=False), tmp_path / "learnt")


def test_the_map_of_the_skill_is_of_the_grid_and_has_a_picture(folder: Path, model: Path, tmp_path: Path) -> None:
    from geoml.forecasting.tasks.forecast import Task

    scores = pipeline.evaluate(model, made_patch.recipe(folder), maps=tmp_path / "x.skill.tif")
    with rasterio.open(tmp_path / "x.skill.tif") as file:
        assert file.descriptions == ("skill P10D", "skill P40D")
        skill = file.read(2)
        assert file.res == (10 * scores["skill_map"]["side"],) * 2
    assert np.isnan(skill[0, 0]), "where nothing is ever clear"
    assert np.nanmean(skill) > 0
    page = Task.page(scores)
    assert page.count("data:image/png") == 2
    assert "better than" in page


@pytest.mark.parametrize("architecture", ["persistence", "ridge"])
def test_other_estimated_models_see_it_too(folder: Path, tmp_path: Path, architecture: str) -> None:
    asked = made_patch.recipe(folder, architecture=architecture)
    pipeline.train(asked, tmp_path / architecture)
    rows = pipeline.evaluate(tmp_path / architecture, asked)["methods"]
    mine, stays = (rows[name]["leads"]["P10D"] for name in ("greenness", "persistence"))
    if architecture == "persistence":
        assert mine["rmse"] == pytest.approx(stays["rmse"], rel=1e-4)
    else:
        assert mine["rmse"] < stays["rmse"]
    assert mine["coverage"]["90"] == pytest.approx(0.9, abs=0.06)
