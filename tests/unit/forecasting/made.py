"""Tables of stations with a known truth: a daily wave and an autoregression that all stations share in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

STATIONS = ("east", "north", "south")
START = "2024-01-01T00:00Z"


def table(days: int = 50, seed: int = 0) -> pd.DataFrame:
    """Rows of `STATIONS`, station after station: ``pm`` and ``wind``, some of it missing."""
    random = np.random.default_rng(seed)
    steps = 24 * days
    times = pd.date_range(START, periods=steps, freq="h")
    shared, own = np.zeros(steps), np.zeros((steps, len(STATIONS)))
    for t in range(1, steps):
        shared[t] = 0.95 * shared[t - 1] + random.normal(0, 0.2)
        own[t] = 0.8 * own[t - 1] + random.normal(0, 0.05, len(STATIONS))
    wave = np.sin(2 * np.pi * np.arange(steps) / 24)
    rows = []
    for k, name in enumerate(STATIONS):
        pm = np.exp(3 + 0.4 * wave + shared + own[:, k])
        pm[random.random(steps) < 0.02] = np.nan
        rows.append(pd.DataFrame({"station": name, "time": times, "pm": pm, "wind": random.gamma(2, 1, steps),
                                  "lon": 116.0 + 0.1 * k, "lat": 40.0 - 0.1 * k}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def write(folder: Path, frame: pd.DataFrame | None = None, name: str = "table.parquet") -> Path:
    path = folder / name
    (table() if frame is None else frame).to_parquet(path)
    return path


def recipe(path: Path, **changed: Any) -> dict[str, Any]:
    """Of a table as `write` makes it; 50 days."""
    return {
        "name": "made", "task": "forecast", "architecture": "ridge", "history": 24, "leads": ["PT1H", "PT6H"],
        "source": {
            "kind": "table", "path": str(path), "id": "station", "step": "PT1H",
            "variables": [{"column": "pm", "unit": "ug m-3", "floor": 0, "transform": "log1p"}, {"column": "wind"}],
        },
        "split": {
            "train": "2024-01-01/2024-01-25", "val": "2024-01-28/2024-02-04", "test": "2024-02-07/2024-02-19",
        },
        "every": 3, **changed,
    }  # fmt: skip
