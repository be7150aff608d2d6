"""Forecasts of tables as typed: trained, evaluated and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import geoml
from tests.e2e.printed import prints, rows, said, wide
from tests.unit.forecasting import made

__all__ = ["said", "wide"]  # fixtures


@prints("forecast")
def test_forecast(said: Callable[..., str], tmp_path: Path) -> None:
    recipe = made.recipe(made.write(tmp_path), architecture="damped")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    said("train", tmp_path / "recipe.yaml", "--out", tmp_path / "package")
    words = ("evaluate", tmp_path / "recipe.yaml", "--model", tmp_path / "package")
    scores = json.loads(said(*words, "--json"))
    told = said(*words, "--report", tmp_path / "scores.html")
    mae = scores["methods"]["persistence"]["leads"]["PT1H"]["mae"]
    assert f"{mae:.3f}" in told
    assert "skill" in rows(told)
    assert (tmp_path / "scores.html").read_text().count("<rect") == 2
    table, out = tmp_path / "table.parquet", tmp_path / "out"
    words = ("forecast", "--model", tmp_path / "package", "--table", table, "--reference-time", "2024-02-10T12:00Z")
    told = said(*words, "--leads", "PT1H,PT6H", "--out", out)
    assert (
        f"6 rows in {out / 'rows.parquet'}: pm at 3 places, PT1H, PT6H after 2024-02-10T12:00:00+00:00, by made" in told
    )
    assert "The newest value is of 2024-02-10T12:00:00+00:00, the reference time" in told
    run = geoml.open(out)
    assert (run.layers, run.tables) == ([], ["rows"]), "a run without a map"
    assert run.rows.equals(geopandas.read_parquet(out / "rows.parquet"))
    assert "rows" in dir(run)
    assert not hasattr(run, "shape")
    assert "<code>rows</code>" in run._repr_html_()
    again = json.loads(said(*words, "--leads", "PT6H", "--out", out, "--json"))
    assert again["rows"] == 3
    assert set(geopandas.read_parquet(out / "rows.parquet").lead) == {"PT6H"}
    words = ("cycles", "--model", tmp_path / "package", "--table", table, "--since", "2024-02-10T11:00Z", "--leads",
             "PT1H", "--until", "2024-02-10T12:00Z", "--out", tmp_path / "cycles")  # fmt: skip
    told = said(*words)
    assert "2 issued; the newest step is of 2024-02-10T12:00:00Z, 0 seconds old" in told
    (row,) = pq.read_table(tmp_path / "cycles" / "verification.parquet").to_pylist()
    assert dict(row["simple"]).keys() == {"persistence", "climatology"}
    assert row["best_mae"] == min(dict(row["simple"]).values())
    words = ("forecast", "--model", "persistence", "--table", table, "--variable", "pm", "--step", "PT1H")
    values = pd.read_parquet(table)
    values[values.time <= pd.Timestamp("2024-02-10T07:00Z")].to_parquet(table)
    told = said(*words, "--leads", "PT1H", "--reference-time", "2024-02-10T12:00Z", "--out", tmp_path / "simple")
    assert "3 rows in" in told
    assert "The newest value is of 2024-02-10T07:00:00+00:00, 5:00:00 before it" in told


def test_what_came_true_is_filled_in_and_scored(said: Callable[..., str], tmp_path: Path) -> None:
    made.write(tmp_path)
    table, out = tmp_path / "table.parquet", tmp_path / "out"
    words = ("forecast", "--model", "persistence", "--table", table, "--variable", "pm", "--step", "PT1H")
    said(*words, "--leads", "PT1H,PT3H", "--reference-time", "2024-02-10T12:00Z", "--out", out)
    before = geopandas.read_parquet(out / "rows.parquet")
    assert before.observed.isna().all()
    told = said("verify", out)
    after = geopandas.read_parquet(out / "rows.parquet")
    values = pd.read_parquet(table)
    values["time"] = pd.to_datetime(values.time, utc=True)
    values = values.set_index(["station", "time"]).pm
    expected = [values.get((p, t)) for p, t in zip(after.place, after.valid_time, strict=True)]
    np.testing.assert_allclose(after.observed, np.array(expected, float))
    rows_of = {row["lead"]: row for row in pq.read_table(out / "verification.parquet").to_pylist()}
    hour = after[after.lead == "PT3H"].dropna(subset="observed")
    assert rows_of["PT3H"]["mae"] == pytest.approx((hour.q50 - hour.observed).abs().mean())
    assert f"{rows_of['PT3H']['mae']:.3f}" in told
    pd.testing.assert_frame_equal(before.drop(columns="observed"), after.drop(columns="observed"))
