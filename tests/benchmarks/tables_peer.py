"""What pytorch-forecasting takes to forecast a table, in a process of its own: no geoml here.

``python tables_peer.py TABLE.parquet`` for every line of input, a month such as 2015-06, prints a line of JSON: CPU
seconds from the file to quantiles in memory, and how many rows (station, reference time, lead) these are. A Temporal
Fusion Transformer of the size of ``beijing-pm25-tft``: 24 hours of seven variables of twelve stations and the calendar,
24 leads, seven quantiles. Its weights are fresh, which takes as long as others would.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet  # noqa: E402
from pytorch_forecasting.data import GroupNormalizer  # noqa: E402

torch.set_num_threads(1)
HOURS = 24
SEEN = ["PM2.5", "PM10", "CO", "TEMP", "PRES", "DEWP", "WSPM"]
NAMES = [name.replace(".", "") for name in SEEN]
CALENDAR = ["hour_sin", "hour_cos", "year_sin", "year_cos"]


def read(path: Path) -> pd.DataFrame:
    """The table as it wants it: no gaps, an integer time, the calendar as columns."""
    frame = pd.read_parquet(path)
    times = pd.to_datetime(frame[["year", "month", "day", "hour"]]) - pd.Timedelta(hours=8)
    frame = frame[["station", *SEEN]].rename(columns=dict(zip(SEEN, NAMES, strict=True)))
    frame[NAMES] = frame.groupby("station")[NAMES].ffill().bfill().astype(np.float32)
    turns = {"hour": times.dt.hour / 24, "year": times.dt.dayofyear / 365.2425}
    for name, turn in turns.items():
        frame[f"{name}_sin"], frame[f"{name}_cos"] = np.sin(2 * np.pi * turn), np.cos(2 * np.pi * turn)
    frame["time"] = times
    frame["step"] = ((times - times.min()) // pd.Timedelta(hours=1)).astype(int)
    return frame


def part(frame: pd.DataFrame, month: str) -> pd.DataFrame:
    """The rows that the reference times of a month need."""
    whole = pd.Period(month)
    first, last = whole.start_time - pd.Timedelta(hours=HOURS - 1), whole.end_time + pd.Timedelta(hours=HOURS)
    return frame[(frame["time"] >= first) & (frame["time"] <= last)]


def main(path: Path, batch: int) -> None:
    frame = read(path)
    known = TimeSeriesDataSet(
        frame[frame["time"] < "2015-03"], time_idx="step", target=NAMES[0], group_ids=["station"],
        min_encoder_length=HOURS, max_encoder_length=HOURS, min_prediction_length=HOURS, max_prediction_length=HOURS,
        static_categoricals=["station"], time_varying_known_reals=CALENDAR, time_varying_unknown_reals=NAMES,
        target_normalizer=GroupNormalizer(groups=["station"], transformation="log1p"),
    )  # fmt: skip
    size = {"hidden_size": 32, "hidden_continuous_size": 32, "attention_head_size": 4, "output_size": 7}
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model = TemporalFusionTransformer.from_dataset(known, **size)
    for line in sys.stdin:
        begun = time.process_time()
        windows = TimeSeriesDataSet.from_dataset(known, part(read(path), line.strip()), stop_randomization=True)
        loader = windows.to_dataloader(train=False, batch_size=batch, num_workers=0)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            said = model.predict(loader, mode="quantiles", trainer_kwargs=dict(quiet))  # which it changes
        took = time.process_time() - begun
        rows, parameters = sum(len(leads) for leads in said), sum(p.numel() for p in model.parameters())
        print(json.dumps({"seconds": took, "rows": rows, "parameters": parameters}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 256)
