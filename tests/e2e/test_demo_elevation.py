"""What ``geoml demo --elevation`` prints and writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas

import geoml
from tests.e2e.printed import rows, said, wide

__all__ = ["said", "wide"]  # fixtures


def test_a_quarter_of_delft_is_held_against_points_that_were_kept_back(
    said: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    told = said("demo", "--elevation", "--out", out)
    found = json.loads((out / "accuracy.json").read_text())
    assert found["all"]["n"] > 130
    assert found["all"]["rmse"] < 0.3
    assert found["slope"]["0 to 5 °"]["rmse"] < 0.1
    assert rows(told)["all"][2] == f"{found['all']['rmse']:.3f} m"
    assert f"Look at {out / 'report.html'}" in told.replace("\n", "")
    page = (out / "report.html").read_text()
    assert "NAP height" in page
    assert f"{found['all']['rmse']:.3f} m" in page
    assert "training data" not in page
    houses = geopandas.read_parquet(out / "buildings.parquet")
    assert len(houses) > 3
    assert houses["height"].between(2, 20).all()
    run = geoml.open(out)
    assert 10 < float(run.height.max()) < 40
    assert run.buildings["id"].tolist() == houses["id"].tolist()
    assert "<img" in run._repr_html_()
    record = json.loads((out / "run.json").read_text())
    assert record["files"]["accuracy.json"]
    assert record["warnings"] == []
