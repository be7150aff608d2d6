"""Forecasts of tables as typed: trained, evaluated and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import yaml

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
    again = json.loads(said(*words, "--leads", "PT6H", "--out", out, "--json"))
    assert again["rows"] == 3
    assert set(geopandas.read_parquet(out / "rows.parquet").lead) == {"PT6H"}
    words = ("forecast", "--model", "persistence", "--table", table, "--variable", "pm", "--step", "PT1H")
    told = said(*words, "--leads", "PT1H", "--reference-time", "2024-02-10T12:00Z", "--out", tmp_path / "simple")
    assert "3 rows in" in told
