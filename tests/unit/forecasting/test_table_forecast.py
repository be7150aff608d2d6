"""A forecast of a table from its recipe to its rows: no leak, nothing invented, and what cannot be is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
import torch

from geoml import pipeline
from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.forecasting import steps
from geoml.forecasting.recipe import ForecastRecipe
from geoml.forecasting.rows import forecaster
from geoml.forecasting.rows.calibrated import answers
from geoml.forecasting.rows.fit import training_of
from geoml.forecasting.rows.fitted import card_of, fitted, read, reference_steps
from geoml.recipe import parse
from tests.unit.forecasting import made

NOW = "2024-02-10T12:00Z"
SIMPLE = {"model": "damped", "variable": "pm", "step": "PT1H", "leads": "PT6H,PT1H"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table and the package of a ridge regression."""
    folder = tmp_path_factory.mktemp("rows")
    made.write(folder)
    pipeline.train(made.recipe(folder / "table.parquet", rolling="P5D"), folder / "package")
    return folder


def forecast(place: Path, out: Path, frame: pd.DataFrame | None = None, **options: Any) -> dict[str, Any]:
    path = place / "table.parquet" if frame is None else made.write(out.parent, frame, f"{out.name}.parquet")
    given = {"model": str(place / "package"), "table": str(path), "reference_time": NOW, **options}
    return steps.forecast(out, **given)


def test_rows_are_as_promised(place: Path, tmp_path: Path) -> None:
    record = forecast(place, tmp_path / "out")
    rows = geopandas.read_parquet(tmp_path / "out" / "rows.parquet")
    assert rows.place.tolist() == sorted(made.STATIONS * 2)
    assert rows.lead.tolist() == ["PT1H", "PT6H"] * 3
    assert (rows.valid_time - rows.reference_time).tolist() == [pd.Timedelta("1h"), pd.Timedelta("6h")] * 3
    assert set(rows.reference_time) == {pd.Timestamp(NOW)}
    quantiles = rows[["q05", "q10", "q25", "q50", "q75", "q90", "q95"]].to_numpy()
    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles >= 0).all()
    assert ((rows["mean"] > quantiles[:, 0]) & (rows["mean"] < quantiles[:, -1])).all()
    assert rows.observed.isna().all()
    assert set(rows.unit) == {"ug m-3"}
    file = pq.ParquetFile(tmp_path / "out" / "rows.parquet")
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["geometry_types"] == ["Point"]
    assert geo["columns"]["geometry"]["covering"]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert record["rows"] == 6
    assert record["without_history"] == []
    assert json.loads((tmp_path / "out" / "run.json").read_text())["data_sha256"] == record["data_sha256"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="median"') == 3
    assert "://" not in page


@pytest.mark.parametrize("model", ["package", "persistence", "damped", "ridge"])
def test_what_comes_after_the_reference_time_changes_no_byte(place: Path, tmp_path: Path, model: str) -> None:
    given = {} if model == "package" else {"model": model, "variable": "pm", "step": "PT1H", "leads": "PT1H,PT6H"}
    frame = made.table()
    later = frame.time > pd.Timestamp(NOW)
    hashes = [forecast(place, tmp_path / "whole", **given)["data_sha256"]]
    bytes_of = [(tmp_path / "whole" / "rows.parquet").read_bytes()]
    random = np.random.default_rng(1)
    for name, other in {
        "cut": frame[~later],
        "other": frame.assign(pm=frame.pm.where(~later, random.normal(1e6, 1e5, len(frame)))),
        "infinite": frame.assign(pm=frame.pm.where(~later, np.inf)),
        "doubled": pd.concat([frame, frame[later].iloc[:5]]),
        "strange": frame.assign(time=frame.time.where(~later, frame.time + pd.Timedelta("17min"))),
    }.items():
        hashes.append(forecast(place, tmp_path / name, other, **given)["data_sha256"])
        bytes_of.append((tmp_path / name / "rows.parquet").read_bytes())
    assert len(set(hashes)) == 1
    assert len(set(bytes_of)) == 1
    before = frame.assign(pm=frame.pm.where(frame.time != pd.Timestamp(NOW), 500.0))
    forecast(place, tmp_path / "before", before, **given)
    assert (tmp_path / "before" / "rows.parquet").read_bytes() != bytes_of[0], "what is known has to count"


def test_a_place_without_history_has_no_rows_and_is_named(place: Path, tmp_path: Path) -> None:
    frame = made.table()
    recent = (frame.time > pd.Timestamp(NOW) - pd.Timedelta("1D")) & (frame.station == "north")
    record = forecast(place, tmp_path / "out", frame.assign(pm=frame.pm.mask(recent)))
    assert record["without_history"] == ["north"]
    assert any("1 place without a known value in the history" in w for w in record["warnings"])
    assert set(geopandas.read_parquet(tmp_path / "out" / "rows.parquet").place) == {"east", "south"}
    strange = pd.concat([frame, frame[frame.station == "east"].assign(station="west")])
    assert "west" in str(forecast(place, tmp_path / "strange", strange)["left_out"])


def test_an_old_value_is_said_to_be_old(place: Path, tmp_path: Path) -> None:
    frame = made.table()
    record = forecast(place, tmp_path / "out", frame[frame.time <= pd.Timestamp(NOW) - pd.Timedelta("5h")])
    assert any("the newest value is 5 steps of PT1H older" in w for w in record["warnings"])
    assert record["age_seconds"] == 5 * 3600
    late = frame.station.isin(["east", "south"]) & (frame.time > pd.Timestamp(NOW) - pd.Timedelta("7h"))
    frame = frame[frame.time <= pd.Timestamp(NOW)]
    record = forecast(place, tmp_path / "some", frame.assign(pm=frame.pm.mask(late)))
    assert record["age_seconds"] == 0
    assert any(
        "2 places without a value as new as that; the last one of the most outdated is 7 steps" in w
        for w in record["warnings"]
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"leads": "PT1H,PT7H"}, "leads: PT7H; made has PT1H, PT6H"),
        ({"reference_time": "2999-01-01T00:00Z"}, "reference-time: .* is in the future"),
        ({"reference_time": "2024-02-10T12:20Z"}, "reference-time: .* between steps"),
        ({"reference_time": "soon"}, "reference-time: 'soon'"),
        ({"model": "damped", "variable": "pm", "step": "PT1H"}, "leads: none"),
        ({"model": "damped", "leads": "PT1H", "variable": "pm"}, "step: not given"),
        ({"model": "damped", "leads": "PT1H", "step": "PT1H"}, "variable: .* has pm, wind"),
        ({"model": "dampd"}, "model: 'dampd' is not known"),
        (
            {"model": "advection"},
            "model: advection has to be trained; expected a package of geoml train, or one of pers",
        ),
        ({"bbox": (0, 0, 1, 1), "reads": "knmi-radar"}, "reads, bbox: of a cube"),
        ({**SIMPLE, "zone": "Berlin"}, "zone: 'Berlin'; expected a name"),
        ({**SIMPLE, "step": "hour"}, "step: 'hour'; expected an ISO 8601"),
    ],
)
def test_what_is_asked_wrongly_is_refused(place: Path, tmp_path: Path, options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        forecast(place, tmp_path / "out", **options)


def test_an_interval_is_of_errors_that_were_seen(place: Path, tmp_path: Path) -> None:
    """A lead beyond the table has none: its quantiles would all be one number, as if it were sure."""
    assert forecast(place, tmp_path / "out", **SIMPLE)["leads"] == ["PT1H", "PT6H"]
    rows = geopandas.read_parquet(tmp_path / "out" / "rows.parquet")
    assert (rows.q95 > rows.q05 + 1).all()
    with pytest.raises(NothingFound, match=r"leads: 0 values are known 2160 steps after .* the quantile 0.05 needs 20"):
        forecast(place, tmp_path / "far", **SIMPLE | {"leads": "PT1H,P90D"})


def test_a_reference_time_without_data_is_refused(place: Path, tmp_path: Path) -> None:
    for when in ("2023-01-01T00:00Z", "2024-06-01T00:00Z"):
        with pytest.raises(NothingFound):
            forecast(place, tmp_path / "out", reference_time=when)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    with pytest.raises(InputError, match=r"out: .* contains other files"):
        forecast(place, tmp_path / "other")


def test_a_station_that_moved_is_refused(place: Path, tmp_path: Path) -> None:
    places = made.table().drop_duplicates("station")[["station", "lon", "lat"]]
    places.to_csv(tmp_path / "places.csv", index=False)
    assert forecast(place, tmp_path / "out", places=str(tmp_path / "places.csv"))["rows"] == 6
    places.rename(columns={"station": "name"}).to_csv(tmp_path / "named.csv", index=False)
    assert forecast(place, tmp_path / "simple", places=str(tmp_path / "named.csv"), **SIMPLE)["rows"] == 6
    places.assign(lon=places.lon + 0.05).to_csv(tmp_path / "moved.csv", index=False)
    with pytest.raises(DataError, match="places: 3 have moved since training"):
        forecast(place, tmp_path / "moved", places=str(tmp_path / "moved.csv"))
    frame = made.table()
    with pytest.raises(DataError, match="lon, lat: 3 places lie elsewhere than before, the first 'east'"):
        forecast(place, tmp_path / "table", frame.assign(lon=frame.lon + 0.05))


def test_a_table_without_a_value_says_nothing(place: Path, tmp_path: Path) -> None:
    frame = made.table().assign(pm=np.nan)
    for options, says in (({}, "no place has a value"), (SIMPLE, "pm: no value in the times that are fitted on")):
        with pytest.raises(NothingFound, match=says):
            forecast(place, tmp_path / "out", frame, **options)


def test_covariates_of_the_future_have_to_reach_the_longest_lead(tmp_path: Path) -> None:
    path = made.write(tmp_path)
    value = made.recipe(path)
    value["source"]["variables"][1]["ahead"] = True
    pipeline.train(value, tmp_path / "package")
    frame = made.table()
    known = frame.assign(pm=frame.pm.mask(frame.time > pd.Timestamp(NOW)))
    one = forecast(tmp_path, tmp_path / "one", known)
    assert one["rows"] == 6
    end = pd.Timestamp(NOW) + pd.Timedelta("6h")
    with pytest.raises(InputError, match=r"wind: 3 values at the leads, which end at .*18:00"):
        forecast(tmp_path, tmp_path / "short", known[known.time < end])


def test_a_run_says_what_was_scored(place: Path, tmp_path: Path) -> None:
    """Its few days of table give the quantiles that the whole table gives at this time."""
    forecast(place, tmp_path / "out")
    rows = geopandas.read_parquet(tmp_path / "out" / "rows.parquet")
    package = forecaster.load(place / "package")
    panel = read(parse(ForecastRecipe, made.recipe(place / "table.parquet"), "r"))
    at = np.array([panel.axis.last_known(pd.Timestamp(NOW))])
    whole = answers(package.module, package.module.windows(panel), at)[0]
    said = rows[["q05", "q10", "q25", "q50", "q75", "q90", "q95"]].to_numpy().reshape(whole.shape)
    np.testing.assert_allclose(said, whole, rtol=1e-6)
    fixed = answers(package.module, package.module.windows(panel.between(int(at[0]) - 23, int(at[0]))), at)[0]
    assert np.abs(fixed - whole).max() > 0.01, "the days before have to count"


# --- what a package knows


def test_scores_stand_beside_every_simple_method_and_the_seed_decides(place: Path, tmp_path: Path) -> None:
    scores = pipeline.evaluate(place / "package", made.recipe(place / "table.parquet", rolling="P5D"))
    assert set(scores["methods"]) == {
        "made", "persistence", "same hour yesterday", "climatology", "damped anomaly", "ridge",
    }  # fmt: skip
    for lead, row in scores["methods"]["made"]["leads"].items():
        assert row["crps"] < scores["methods"]["climatology"]["leads"][lead]["crps"]
        assert 0.8 < row["coverage"]["90"] < 0.98
        best = min(m["leads"][lead]["crps"] for name, m in scores["methods"].items() if name != "made")
        assert scores["skill"][lead]["crps"]["skill"] == pytest.approx(1 - row["crps"] / best)
    with pytest.raises(InputError, match="split"):
        pipeline.evaluate(place / "package", made.recipe(place / "table.parquet"), "train")
    frame = made.table()
    late = made.write(tmp_path, frame[frame.time >= pd.Timestamp("2024-02-01T00:00Z")])
    with pytest.raises(InputError, match="no reference time of train"):
        pipeline.evaluate(place / "package", made.recipe(late, rolling="P5D"))
    with pytest.raises(InputError, match="another table, history or leads"):
        pipeline.evaluate(place / "package", made.recipe(place / "table.parquet", history=12))


def test_climatology_and_scaling_are_of_training_times_alone(tmp_path: Path) -> None:
    frame = made.table()
    path = made.write(tmp_path, frame)
    recipe = parse(ForecastRecipe, made.recipe(path), "r")
    other = frame.assign(pm=frame.pm.where(frame.time < pd.Timestamp("2024-01-27T00:00Z"), 1.0))
    changed = parse(ForecastRecipe, made.recipe(made.write(tmp_path, other, "o.parquet")), "r")
    found = []
    for each in (recipe, changed):
        panel = read(each)
        found.append(fitted(card_of(each, panel), panel, reference_steps(each, panel, "train")))
    assert found[0].card.times_sha256 == found[1].card.times_sha256
    for key, value in found[0].forecaster.state_dict().items():
        np.testing.assert_array_equal(value, found[1].forecaster.state_dict()[key])


def test_a_package_that_does_not_fit_its_card_is_refused(place: Path) -> None:
    package = forecaster.load(place / "package")
    assert package.card.trained is not None
    assert package.card.rolling == 120
    with pytest.raises(ModelError, match="graf"):
        forecaster.TableForecaster(package.card.model_copy(update={"architecture": "graf"}))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"split": {"kind": "random", "train": "2024", "test": "2024"}}, "expected time"),
        ({"split": {"train": "2024-01-01/2024-01-25", "test": "2024-01-26/2024-02"}}, "a gap of at least 30 steps"),
        ({"split": {"train": "2024-01-01/2024-01-25", "test": "2024-01-20/2024-02"}}, "overlap"),
        ({"split": {"train": "2024-02/2024-01", "test": "2024-04"}}, "ends before it begins"),
        ({"leads": ["PT6H", "PT1H"]}, "expected rising values"),
        ({"leads": ["PT90M"]}, "multiple of the step"),
        ({"levels": [0.1, 0.9]}, "levels"),
    ],
)
def test_a_recipe_that_would_flatter_itself_is_refused(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse(ForecastRecipe, made.recipe(tmp_path / "t.parquet", **changed), "r")


def test_what_is_learnt_goes_on_where_it_was_stopped_and_needs_times_that_choose(tmp_path: Path) -> None:
    path = made.write(tmp_path)
    value = made.recipe(
        path, architecture="graph", config={"hidden": 8}, guess="ridge", futures=["hour"], epochs=2, train_every=6
    )
    seen: list[float] = []

    def stop(row: dict[str, float]) -> None:
        seen.append(row["epoch"])
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(value, tmp_path / "one", on_epoch=stop)
    pipeline.train(value, tmp_path / "one", on_epoch=stop)
    assert seen == [0, 1]
    pipeline.train(value, tmp_path / "two")
    one, two = (forecaster.load(tmp_path / n) for n in ("one", "two"))
    assert one.card.sha256 == two.card.sha256
    assert one.card.calibration_sha256
    assert len(one.card.training["history"]) == 2
    del value["split"]["val"]
    with pytest.raises(InputError, match="no time of val"):
        pipeline.train(value, tmp_path / "three")
    with pytest.raises(InputError, match="of a different recipe"):
        pipeline.train({**value, "epochs": 3}, tmp_path / "one")


def test_a_training_can_go_to_another_process(tmp_path: Path) -> None:
    recipe = parse(
        ForecastRecipe,
        made.recipe(made.write(tmp_path), architecture="graph", config={"hidden": 4}, guess="ridge", train_every=12),
        "r",
    )
    panel = read(recipe)
    found = fitted(card_of(recipe, panel), panel, reference_steps(recipe, panel, "train", 12))

    def whole(size: int) -> slice:
        return slice(0, size)

    training = training_of(recipe, found, reference_steps(recipe, panel, "val", 12))
    one = next(iter(training.batches(0, whole)))
    again = pickle.loads(pickle.dumps(training))
    other = next(iter(again.batches(0, whole)))
    assert torch.equal(one.x[0], other.x[0])
    assert torch.equal(training.net.eval()(*one.x), again.net.eval()(*other.x))


def test_polygons_keep_their_shape(place: Path, tmp_path: Path) -> None:
    points = made.table().drop_duplicates("station")
    squares = shapely.box(*(points[n].to_numpy() + d for d in (-0.04, 0.04) for n in ("lon", "lat")))
    shapes = geopandas.GeoDataFrame({"name": points.station.to_numpy()}, geometry=squares, crs=4326)
    shapes.iloc[:2].to_parquet(tmp_path / "places.parquet")
    forecast(place, tmp_path / "out", places=str(tmp_path / "places.parquet"))
    rows = geopandas.read_parquet(tmp_path / "out" / "rows.parquet")
    assert rows.geometry.geom_type.tolist() == ["Polygon"] * 4 + ["Point"] * 2
    assert rows.geometry.iloc[0].equals(squares[0])


def test_years_are_refitted_one_by_one(tmp_path: Path) -> None:
    """Counties with a level of their own and a trend that all share: their forecast is nearer than last year."""
    random = np.random.default_rng(2)
    years, counties = np.arange(2000, 2014), [f"c{k:02d}" for k in range(60)]
    level, common = random.normal(40, 6, len(counties)), random.normal(0, 2, len(years))
    rows = [
        {"id": c, "year": y, "crop": level[k] + 0.8 * (y - 2000) + common[t] + random.normal(0, 3), "lon": k / 10,
         "lat": 40}
        for k, c in enumerate(counties) for t, y in enumerate(years)
    ]  # fmt: skip
    path = made.write(tmp_path, pd.DataFrame(rows))
    value = {
        "name": "crop", "task": "forecast", "architecture": "climatology", "history": 2, "leads": ["P1Y"],
        "source": {"kind": "table", "path": str(path), "time": "year", "zone": "UTC", "label": "start", "step": "P1Y",
                   "variables": [{"column": "crop", "unit": "t/ha"}]},
        "split": {"refit": True, "train": "2005/2008", "test": "2009/2013"},
    }  # fmt: skip
    pipeline.train(value, tmp_path / "package")
    package = forecaster.load(tmp_path / "package")
    mine, last = (package.card.scores["methods"][n]["leads"]["P1Y"] for n in ("crop", "persistence"))
    assert mine["rmse"] < 0.85 * last["rmse"]
    assert set(mine["coverage"]) == {"90", "80", "50"}
    assert len(package.card.scores["by_time"]) == 5
    slope = float(package.module.climatology.weights[0, 1]) * float(package.module.std[0])
    assert slope == pytest.approx(0.8, abs=0.4)
    record = forecast(tmp_path, tmp_path / "out", pd.DataFrame(rows), reference_time="2014")
    assert record["rows"] == 60
    rows_of = geopandas.read_parquet(tmp_path / "out" / "rows.parquet")
    assert set(rows_of.valid_time) == {pd.Timestamp("2015-01-01T00:00Z")}


def test_what_a_transformer_looks_at_is_a_file(tmp_path: Path) -> None:
    path = made.write(tmp_path)
    value = made.recipe(
        path, architecture="tft", config={"hidden": 8, "heads": 2}, guess="ridge", epochs=1, train_every=12, every=12
    )
    pipeline.train(value, tmp_path / "package")
    forecast(tmp_path, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "explained.json").read_text())
    assert set(found["importance"]) == {"pm", "wind", "climatology"}
    assert found["steps"] == [*(f"-{k}" for k in range(23, -1, -1)), "PT1H", "PT6H"]
    assert sum(found["importance"].values()) == pytest.approx(1)
    for weights in found["attention"].values():
        assert sum(weights) == pytest.approx(1)
    assert found["attention"]["PT1H"][-1] == 0, "no lead looks at one after it"
    assert found["attention"]["PT6H"][-1] > 0
