"""Forecasts of grids on the real data of $GEOML_DATA: radar of KNMI, ERA5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from geoml import pipeline
from geoml.recipe import load_yaml

RECIPES = Path(__file__).parents[2] / "catalogs" / "recipes"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]


def scores(name: str, out: Path, **changes: Any) -> dict[str, Any]:
    recipe = {**load_yaml(RECIPES / f"{name}.yaml"), **changes}
    pipeline.train(recipe, out)
    return pipeline.evaluate(out, recipe)


def test_advection_of_the_radar_is_as_good_as_is_said(tmp_path: Path) -> None:
    found = scores("knmi-nowcast", tmp_path / "model", architecture="advection", config={})
    leads = found["methods"]["knmi-nowcast"]["leads"]
    for lead, least in (("PT15M", 0.60), ("PT30M", 0.46), ("PT1H", 0.35)):
        assert leads[lead]["csi"]["1"] > least
        assert leads[lead]["mae"] < found["methods"]["persistence"]["leads"][lead]["mae"]


def test_temperature_is_better_than_simple_methods_to_a_day(tmp_path: Path) -> None:
    found = scores("era5-temperature", tmp_path / "model")
    for lead, least in (("PT1H", 0.3), ("PT3H", 0.3), ("PT6H", 0.3), ("PT12H", 0.1), ("P1D", 0.02)):
        assert found["skill"][lead]["rmse"]["skill"] > least
        assert 0.85 < found["methods"]["era5-temperature"]["leads"][lead]["coverage"]["90"] < 0.97
    assert found["skill"]["P1D"]["mae"]["skill"] < 0, "the documents say that it is behind in this a day ahead"


def test_vegetation_under_clouds_is_told_by_how_long_ago_it_was_seen(tmp_path: Path) -> None:
    found = scores("eolearn-ndvi", tmp_path / "model")
    leads = found["methods"]["eolearn-ndvi"]["leads"]
    for (row, mine), most in zip(leads.items(), (0.129, 0.117, 0.134, 0.140), strict=True):
        assert mine["rmse"] <= most
        assert found["skill"][row]["rmse"]["skill"] > -0.005
        assert mine["unsaid"] == 0
        assert 0.88 < mine["coverage"]["90"] < 0.97
