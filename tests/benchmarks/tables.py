"""Rows a CPU second of forecasts of a table, beside pytorch-forecasting in an environment of its own.

``python -m tests.benchmarks.tables PYTHON_WITH_PYTORCH_FORECASTING`` on the twelve stations of ``$GEOML_DATA``: from
the Parquet file to calibrated quantiles of every hour of a month in memory, by a Temporal Fusion Transformer of the
size of ``beijing-pm25-tft`` with fresh weights. Both take the same months in turn, with one thread each, so that other
work on the machine meets both alike. It asks for an older pandas than geoml's, hence its own environment:
``uv venv PEER && uv pip install --python PEER/bin/python pytorch-forecasting pyarrow``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from geoml import pipeline
from geoml.forecasting.recipe import ForecastRecipe
from geoml.forecasting.rows.calibrated import answers, reach
from geoml.forecasting.rows.fitted import card_of, fitted, read, reference_steps
from geoml.forecasting.rows.forecaster import TableForecaster
from geoml.settings import settings

MONTHS = ("2015-04", "2015-05", "2015-06", "2015-07", "2015-08")
WAYS = {"24 leads": (24, None), "24 leads, calibrated on the thirty days before": (24, "P30D"), "5 leads": (5, None)}


def recipe_of(month: str, leads: int, rolling: str | None) -> ForecastRecipe:
    """The shipped one with every hour of a month as its test."""
    shipped = pipeline.training("beijing-pm25-tft")[1].model_dump(mode="json")
    changed = {"split": {**shipped["split"], "test": [month]}, "rolling": rolling, "every": 1}
    if leads == 24:
        changed["leads"] = [f"PT{hour}H" for hour in range(1, leads + 1)]
    return ForecastRecipe.model_validate({**shipped, **changed})


def fresh(recipe: ForecastRecipe) -> TableForecaster:
    """Fitted, but for the weights of the network."""
    panel = read(recipe)
    return fitted(card_of(recipe, panel), panel, reference_steps(recipe, panel, "train", 24)).forecaster.eval()


def ours(recipe: ForecastRecipe, forecaster: TableForecaster) -> tuple[float, int]:
    """CPU seconds and rows."""
    begun = time.process_time()
    panel = read(recipe)
    at = reference_steps(recipe, panel, "test")
    panel = panel.between(int(at[0]) - reach(forecaster.card) + 1, int(at[-1]))
    found = answers(forecaster, forecaster.windows(panel), at)
    return time.process_time() - begun, found[..., 0].size


def main(python: str) -> None:
    data = settings().data
    if data is None:
        raise SystemExit("GEOML_DATA is not set")
    torch.set_num_threads(1)
    table = data / "forecasting" / "beijing_air" / "hourly.parquet"
    command = [python, str(Path(__file__).with_name("tables_peer.py")), str(table)]
    forecasters = {name: fresh(recipe_of(MONTHS[0], *way)) for name, way in WAYS.items()}
    rates: dict[str, list[float]] = {"pytorch-forecasting": [], **{name: [] for name in WAYS}}
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        for number, month in enumerate((MONTHS[0], *MONTHS)):  # the first one is not counted
            peer.stdin.write(f"{month}\n")
            peer.stdin.flush()
            said = json.loads(peer.stdout.readline())
            turn = {"pytorch-forecasting": said["rows"] / said["seconds"]}
            for name, way in WAYS.items():
                seconds, rows = ours(recipe_of(month, *way), forecasters[name])
                turn[name] = rows / seconds
                if way[0] == 24:
                    assert rows == said["rows"], (rows, said["rows"])
            for name, rate in turn.items():
                if number:
                    rates[name].append(rate)
        peer.stdin.close()
    size = sum(p.numel() for p in forecasters["24 leads"].network.parameters())
    print(f"{size} parameters, theirs {said['parameters']}; rows a CPU second, median of {len(MONTHS)} months")
    theirs = rates["pytorch-forecasting"]
    for name, each in rates.items():
        ratio = statistics.median(a / b for a, b in zip(each, theirs, strict=True))
        print(f"{name}: {statistics.median(each):.0f}, {ratio:.2f} times")


if __name__ == "__main__":
    main(sys.argv[1])
