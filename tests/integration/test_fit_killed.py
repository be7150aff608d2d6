"""A training process that is killed (SIGKILL) goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from geoml.data.recipe import TrainRecipe
from geoml.engine.train.fit import fit
from geoml.engine.train.loop import LAST
from geoml.engine.train.state import STATE

CODE = """
import sys; from pathlib import Path
from geoml.engine.train.fit import fit; from geoml.data.recipe import TrainRecipe
if __name__ == "__main__":
    fit(TrainRecipe.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
"""


def recipe(folder):
    for column, name in enumerate(["a", "b", "v"]):
        rng = np.random.default_rng(column)
        label = rng.random((32, 32)) < 0.5
        for part, data in (("img", label * 100.0 + rng.normal(0, 5, (32, 32))), ("lab", label)):
            path = folder / part / f"{name}.tif"
            path.parent.mkdir(exist_ok=True)
            place = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000 + column * 5000, 0, -10, 7_000_000)}
            with rasterio.open(
                path, "w", driver="GTiff", width=32, height=32, count=1, dtype="float32", **place
            ) as dst:
                dst.write(data.astype("float32"), 1)
    source = {"kind": "pairs", "root": str(folder), "images": "img/{id}.tif", "labels": "lab/{id}.tif"}
    return TrainRecipe.model_validate(
        {
            "name": "killed",
            "model": {"architecture": "unet", "config": {"depth": 3, "decoder_channels": [8, 8, 8]}},
            "bands": ["grey"],
            "gsd": 10,
            "classes": [
                {"value": 0, "name": "dark", "color": "#000000"},
                {"value": 1, "name": "bright", "color": "#ffffff"},
            ],
            "source": {**source, "file_bands": ["grey"]},
            "split": {"kind": "files", "val": ["v"]},
            "augmentation": {"flips": True},
            "sampling": {"samples": 8},
            "epochs": 40,
            "early_stopping": None,
            "batch": 4,
            "chip_size": 32,
            "precision": "fp32",
        }
    )


def history(state):
    return torch.load(state, weights_only=True)["history"]


@pytest.mark.slow
def test_sigkill(tmp_path):
    made = recipe(tmp_path)
    (tmp_path / "recipe.json").write_text(made.model_dump_json())
    last = tmp_path / "m" / STATE / LAST
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on how many add them up
    words = [sys.executable, "-c", CODE, tmp_path / "recipe.json", tmp_path / "m"]
    process = subprocess.Popen(words, env={**os.environ, **threads})
    end = time.time() + 240
    while time.time() < end and process.poll() is None:
        if last.exists() and len(history(last)) >= 2:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was still at work
    before = history(last)
    epochs = []
    card = fit(made, tmp_path / "m", on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs[0] == len(before)
    assert [row["epoch"] for row in card.training["history"]] == list(range(40))
    assert card.training["history"][: len(before)] == before
    assert not (tmp_path / "m" / STATE).exists()
