"""What ``geoml demo --forecast`` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from geoml.cli.demos import forecast
from tests.e2e.printed import said, wide

__all__ = ["said", "wide"]  # fixtures


def test_an_hour_of_rain_is_forecast_and_what_came_true_is_said(said: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    told = said("demo", "--forecast", "--out", out)
    rows: list[dict[str, Any]] = pq.read_table(out / "verification.parquet").to_pylist()
    assert [row["lead"] for row in rows] == list(forecast.LEADS)
    for row in rows:
        assert row["n"] > 20_000
        assert row["skill"] > 0.15
        assert f"{row['mae']:.3f}" in told
        assert f"{row['skill']:.1%}" in told
    assert f"Look at {out / 'report.html'}" in told.replace("\n", "")
    record = json.loads((out / "run.json").read_text())
    assert record["blocks"]["planned"] == len(list((out / "items").iterdir()))
