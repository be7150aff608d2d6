"""A tiny segmentation problem made in code: bright is class 1, dark is class 0, some pixels are not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.data.recipe import ChangeRecipe, TrainRecipe

CLASSES = [{"value": 4, "name": "dark", "color": "#000000"}, {"value": 9, "name": "bright", "color": "#ffffff"}]


def write(path: Path, data: np.ndarray, column: int, **extra: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000 + column * 5000, 0, -10, 7_000_000)}
    size = {"width": data.shape[2], "height": data.shape[1], "count": len(data), "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **place, **extra) as dst:
        dst.write(data)


def scenes(folder: Path, bands: int = 2, size: int = 48, poison: float | None = None) -> None:
    """t0, v0 and four training scenes; ``poison`` is written where the image has no data (and is its nodata value)."""
    nodata = 0.0 if poison is None else poison
    for column, name in enumerate(["a0", "a1", "a2", "a3", "v0", "t0"]):
        rng = np.random.default_rng(column)
        bright = np.kron(rng.random((size // 8, size // 8)) < 0.5, np.ones((8, 8))).astype(bool)
        image = np.where(bright, 300, 100) + rng.normal(0, 25, (bands, size, size))
        label = np.where(bright, 9, 4).astype(np.int16)
        label[:3] = -1
        gap = rng.random((size, size)) < 0.1
        image[:, gap] = nodata
        write(folder / "img" / f"{name}.tif", image.astype(np.float32), column, nodata=nodata)
        write(folder / "lab" / f"{name}.tif", label[None], column)


@pytest.fixture
def problem(tmp_path: Path) -> Callable[..., TrainRecipe]:
    """problem(**changes) gives a recipe that learns the scenes in seconds; they are written once."""
    return problem_in(tmp_path / "data")


def problem_in(folder: Path) -> Callable[..., TrainRecipe]:
    """As `problem`, with scenes in a folder that the tests of a file share."""
    scenes(folder)

    def make(**changes: Any) -> TrainRecipe:
        value: dict[str, Any] = {
            "name": "tiny",
            "model": {"architecture": "unet", "config": {"depth": 3, "decoder_channels": [16, 8, 8]}},
            "bands": ["grey", "more"],
            "gsd": 10,
            "classes": CLASSES,
            "source": {
                "kind": "pairs",
                "root": str(folder),
                "images": "img/{id}.tif",
                "labels": "lab/{id}.tif",
                "file_bands": ["grey", "more"],
                "ignore": [-1],
            },
            "split": {"kind": "files", "val": ["v*"], "test": ["t*"]},
            "augmentation": {"flips": True},
            "loss": {"parts": {"cross_entropy": 1.0}},
            "sampling": {"samples": 12},
            "optimiser": {"lr": 0.01},
            "epochs": 3,
            "batch": 6,
            "chip_size": 32,
            "precision": "fp32",
            "seed": 3,
        }
        kind = ChangeRecipe if changes.get("task") == "change" else TrainRecipe
        return kind.model_validate({**value, **changes})

    make.scenes, make.write = scenes, write  # for tests that change the data
    return make
