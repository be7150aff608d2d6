"""A small network with random weights, whose every pixel depends on what is around it, and frames for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from geoml import testing
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages import package
from geoml.engine.packages.package import Package
from geoml.engine.stream.recipe import StreamRecipe

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 600_000, 0, -10, 7_000_000)}


@pytest.fixture(autouse=True)
def _full_precision(machine: Callable[..., None]) -> None:
    machine(precision="fp32", device="cpu")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package ``net`` of red and nir, ``rgb`` of red, green and blue."""
    root = tmp_path_factory.mktemp("stream")
    testing.small_unet(root / "net", ("red", "nir"), ("low", "middle", "high"), steps=0)
    testing.small_unet(root / "rgb", ("red", "green", "blue"), ("low", "middle", "high"), steps=0)
    return root


@pytest.fixture(scope="session")
def net(folder: Path) -> Package:
    return package.load(folder / "net")


@pytest.fixture
def predictor(net: Package) -> Predictor:
    return Predictor(net)


@pytest.fixture
def recipe() -> Callable[..., StreamRecipe]:
    """A recipe with a scale for stored numbers up to 10,000."""

    def make(**options: object) -> StreamRecipe:
        return StreamRecipe.model_validate({"model": "net", "scale": 1e-4, **options})

    return make


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    """Twelve GeoTIFFs of 40 x 52 pixels, 0.tif to 11.tif, and a note that is none."""
    root = tmp_path / "chips"
    root.mkdir()
    for k in range(12):
        write_chip(root / f"{k}.tif", testing.smooth((2, 40, 52), seed=k))
    (root / "notes.txt").write_text("no frame", encoding="utf-8")
    return root


def write_chip(path: Path, data: np.ndarray, **about: object) -> None:
    """A GeoTIFF in one piece, as small chips are."""
    kind = {"driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2]}
    with rasterio.open(path, "w", dtype=data.dtype, nodata=0, **kind, **{**PLACE, **about}) as file:
        file.write(data)
