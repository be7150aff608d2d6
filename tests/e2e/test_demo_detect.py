"""What ``geoml demo --detect`` prints and draws."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

import geoml
from geoml.cli import app
from geoml.cli.common import err_console, out_console
from geoml.cli.demos import detect


@pytest.mark.slow
def test_demo_of_objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Counts, sentence and picture say the same; boxes on a lattice would find 0 or 1 of the 25."""
    for console in (out_console, err_console):
        monkeypatch.setattr(console, "width", 200)
    ended = CliRunner().invoke(app, ["demo", "--detect", "--out", str(tmp_path / "demo")])
    assert ended.exit_code == 0, ended.output
    (row,) = pq.read_table(tmp_path / "demo" / "run" / "summary.parquet").to_pylist()
    counts = [str(row["count"]), f"{row['expected']:.1f}", f"{row['expected_low']} to {row['expected_high']}", "25"]
    (line,) = (x for x in ended.stdout.splitlines() if x.startswith("│ car "))
    assert [c.strip() for c in re.split("│", line)[2:-1]] == counts
    assert len(pq.read_table(tmp_path / "demo" / "run" / "features.parquet")) == row["count"]
    run = geoml.open(tmp_path / "demo" / "run")
    assert len(run.objects) == row["count"] == run.summary["count"][0]
    assert "data:image/png" in run._repr_html_()
    cars = detect.compare_with_labels(tmp_path / "demo" / "run")
    assert cars.sentence() in ended.stdout
    assert len(cars.found) == row["count"]
    assert len(cars.seen) >= 15
    assert len(cars.right) > len(cars.found) / 2
    assert f"Look at {tmp_path / 'demo' / 'cars.png'}" in ended.stdout.replace("\n", "")
    drawn = np.asarray(Image.open(tmp_path / "demo" / "cars.png"))
    assert np.array_equal(drawn, np.asarray(detect.picture(cars)))
    edge = [(drawn == ImageColor.getrgb(c)).all(-1).any() for c in (detect.RIGHT, detect.MISSED, detect.WRONG)]
    assert edge == [len(n) > 0 for n in (cars.seen, range(25 - len(cars.seen)), range(row["count"] - len(cars.right)))]
