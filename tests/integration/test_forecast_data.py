"""Shipped recipes of forecasts on their data: what is read, and that yields are not behind the plain method."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoml import pipeline
from geoml.forecasting.rows import forecaster
from geoml.forecasting.rows.fitted import read
from geoml.forecasting.tasks.forecast import Task

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]


def shipped(name: str) -> Any:
    return pipeline.training(name)[1]


@pytest.mark.parametrize("name", ["beijing-pm25-graph", "beijing-pm25-tft", "beijing-temperature"])
def test_twelve_stations_are_read_with_their_gaps(name: str) -> None:
    panel = read(shipped(name))
    assert panel.values.shape[1:] == (26_304, 12)
    assert not panel.left_out
    missing = float(np.isnan(panel.values[0]).mean())
    assert missing == pytest.approx(0.0202 if "pm25" in name else 0.0006, abs=2e-4)
    assert panel.axis.time(panel.numbers[:1])[0] == pd.Timestamp("2013-02-28T16:00Z")


def test_yields_are_not_behind_the_mean_of_the_county_and_the_national_trend(tmp_path: Path) -> None:
    recipe = shipped("us-soybean")
    Task.fit(recipe, tmp_path / "package")
    mine = forecaster.load(tmp_path / "package").card.scores["methods"]["us-soybean"]["leads"]["P1Y"]
    values = pd.DataFrame(read(recipe).values[0], index=range(2003, 2014))
    errors = []
    for year in range(2009, 2014):
        before = values.loc[: year - 1]
        nation = before.mean(axis=1)
        trend = np.polynomial.Polynomial.fit(nation.index.to_numpy(float), nation.to_numpy(), 1)
        said = trend(year) + before.sub(nation, axis=0).mean(axis=0)
        recent = before.loc[year - 2 :].notna().any(axis=0)
        errors.append((values.loc[year] - said)[recent].dropna())
    plain = float(np.sqrt((pd.concat(errors) ** 2).mean()))
    assert mine["n"] == len(pd.concat(errors))
    assert mine["rmse"] < plain
    assert plain == pytest.approx(7.14, abs=0.01)
    for interval, share in mine["coverage"].items():
        assert share == pytest.approx(int(interval) / 100, abs=0.03)
