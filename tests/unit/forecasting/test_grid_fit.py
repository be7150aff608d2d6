"""What is estimated of a grid of hours whose level drifts: the climatology is old when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoml import pipeline
from geoml.engine.packages import package
from geoml.errors import NothingFound
from geoml.testing.radar import write_radar
from tests import made_cubes

DAYS, DRIFT, NOISE = 21, 0.12, 0.3
"""Kelvin a day, and of every hour and pixel by itself."""


def cube(folder: Path) -> Path:
    """Hourly temperatures: a daily wave, a spring that comes and noise; the YAML file."""
    hours = np.arange(24 * DAYS)
    level = 275 + 3 * np.sin(2 * np.pi * hours / 24) + DRIFT * hours / 24
    values = level[:, None, None] + np.random.default_rng(3).normal(0, NOISE, (len(hours), 6, 8))
    made_cubes.netcdf(folder / "hours.nc", values.astype(np.float32), hours.tolist(), unit="K")
    reads = folder / "hours.yaml"
    about = "variable: rain\nname: air_temperature\nfile_unit: K\nunit: K\nplausible: [200, 330]\nstep: PT1H\n"
    reads.write_text(f"driver: netCDF\n{about}")
    return reads


def test_nothing_is_learnt_of_steps_without_a_value(tmp_path: Path) -> None:
    """Though later steps have some: what was estimated would be as sure as if nothing ever changed."""
    frames = np.full((12, 20, 20), np.nan, np.float32)
    frames[9:] = 1
    spec = write_radar(tmp_path / "rain", frames)
    recipe = {
        "name": "rain", "task": "forecast",
        "source": {"kind": "cube", "path": str(tmp_path / "rain"), "cube": str(spec)},
        "architecture": "damped", "history": 2, "leads": ["PT5M"], "chip_size": 16,
        "split": {"train": "2024-06-01T12:00/2024-06-01T12:20", "test": "2024-06-01T12:50/2024-06-01T12:55"},
    }  # fmt: skip
    with pytest.raises(NothingFound, match="rainfall_rate: no value in the 6 steps that are fitted on"):
        pipeline.train(recipe, tmp_path / "model")


def test_an_old_climatology_is_trusted_as_little_as_it_deserves(tmp_path: Path) -> None:
    """Thirds of twelve days of reference times lie eight days apart, so that the anomaly is drift for the most part:
    phi is its share of the variance. Beside a climatology of adjacent days it would be a tenth less."""
    recipe = {
        "name": "hours", "task": "forecast",
        "source": {"kind": "cube", "path": str(tmp_path / "hours.nc"), "cube": str(cube(tmp_path))},
        "architecture": "damped", "history": 25, "leads": ["PT3H", "P1D"], "chip_size": 16,
        "split": {"train": "2024-01-01/2024-01-12", "val": "2024-01-15T02:00/2024-01-16",
                  "test": "2024-01-19T02:00/2024-01-20"},
    }  # fmt: skip
    pipeline.train(recipe, tmp_path / "model")
    found = package.load(tmp_path / "model")
    module: Any = found.module
    old = (DRIFT * 8) ** 2
    assert [float(v) for v in module.phi] == pytest.approx([old / (old + NOISE**2)] * 2, abs=0.05)
    for lower, *_, median, _, _, upper in found.card.made["offsets"]:
        assert median == 0, "two days say nothing of the median of others"
        assert lower == -upper
    rows = pipeline.evaluate(tmp_path / "model", recipe)["methods"]
    mine, others = (rows[name]["leads"]["P1D"]["rmse"] for name in ("hours", "climatology"))
    assert mine < 0.5 * others
