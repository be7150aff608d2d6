"""Models that are made once, and short ways to run geoml on made scenes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import geoml
from geoml import testing
from geoml.cli import app
from geoml.engine.run import _predictor

BANDS = ("red", "nir")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two threads of torch on two busy cores are slower than one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _full_precision(machine: Callable[..., None]) -> None:
    """Truth is compared digit by digit, and models are made ready under the settings of this test."""
    machine(precision="fp32", device="cpu", threads=2)
    _predictor.cache_clear()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def constant(models: Path) -> str:
    """Class 1 of 3 everywhere, whatever it sees."""
    testing.constant_model(models / "constant", BANDS, ("land", "water", "ice"), answer=1)
    return str(models / "constant")


THRESHOLDS = (0.20005, 0.40005)
"""Between two numbers that a uint16 of scale 0.0001 can hold."""


@pytest.fixture(scope="session")
def threshold(models: Path) -> str:
    """The number of `THRESHOLDS` below red."""
    testing.threshold_model(models / "threshold", BANDS, THRESHOLDS)
    return str(models / "threshold")


@pytest.fixture(scope="session")
def unet(models: Path) -> str:
    """A U-Net trained for seconds; a chip must hold its receptive field of some sixty pixels on each side."""
    testing.small_unet(models / "unet", BANDS, ("low", "middle", "high"))
    return str(models / "unet")


@pytest.fixture
def predict(tmp_path: Path) -> Callable[..., Path]:
    """``predict(model, catalog, bbox, name="out", **recipe)`` runs a recipe and gives its folder."""

    def run(model: str, catalog: Path | str, bbox: Sequence[float], name: str = "out", **recipe: Any) -> Path:
        query = {"catalog": str(catalog), "bbox": list(bbox), "datetime": ["2020/2026"], **recipe.pop("query", {})}
        geoml.predict({"model": model, "query": query, "block_size": 512, **recipe}, tmp_path / name)
        return tmp_path / name

    return run


@pytest.fixture
def cli() -> Callable[..., Result]:
    """``cli("predict", "--model", …)`` runs a command in this process."""

    def run(*words: Any) -> Result:
        return CliRunner().invoke(app, [str(w) for w in words])

    return run
