"""What ``geoml demo --forecast`` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from numpy.typing import NDArray

import geoml
from geoml.cli.demos import forecast
from geoml.texts import percent
from tests.e2e.printed import said, wide

__all__ = ["said", "wide"]  # fixtures


def _physical(out: Path, layer: str) -> Iterator[NDArray[np.float64]]:
    """Values of all COGs of a layer, by rasterio."""
    for path in out.rglob(f"{layer}.tif"):
        with rasterio.open(path) as file:
            yield np.ma.compressed(file.read(1, masked=True) * file.scales[0] + file.offsets[0])


def test_an_hour_of_rain_is_forecast_and_what_came_true_is_said(said: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "demo"
    told = said("demo", "--forecast", "--out", out)
    rows: list[dict[str, Any]] = pq.read_table(out / "verification.parquet").to_pylist()
    assert [row["lead"] for row in rows] == list(forecast.LEADS)
    for row in rows:
        assert row["n"] > 20_000
        assert row["skill"] > 0.15
        assert f"{row['mae']:.3f}" in told
        assert percent(row["skill"]) in told
    assert f"Look at {out / 'report.html'}" in told.replace("\n", "")
    rain = geoml.open(out).lead_PT15M
    assert rain.attrs["units"] == "mm/h"
    assert float(rain.max()) == pytest.approx(max(float(f.max()) for f in _physical(out, "lead_PT15M")))
    record = json.loads((out / "run.json").read_text())
    assert record["blocks"]["planned"] == len(list((out / "items").iterdir()))
