"""Small training data made in code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.data.recipe import ChangeRecipe, TrainRecipe


@pytest.fixture
def tif() -> Callable[..., Path]:
    """tif(path, data, crs="EPSG:32621", origin=(x, y), res=10, **profile) writes a GeoTIFF."""

    def write(
        path: Path,
        data: np.ndarray,
        crs: str | None = "EPSG:32621",
        origin: tuple[float, float] = (600_000.0, 7_000_000.0),
        res: float = 10.0,
        **extra: Any,
    ) -> Path:
        data = data if data.ndim == 3 else data[None]
        path.parent.mkdir(parents=True, exist_ok=True)
        place = {"crs": crs, "transform": Affine(res, 0, origin[0], 0, -res, origin[1])} if crs else {}
        size = {"width": data.shape[2], "height": data.shape[1], "count": len(data), "dtype": data.dtype}
        with rasterio.open(path, "w", driver="GTiff", **size, **place, **extra) as dst:
            dst.write(data)
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., TrainRecipe]:
    """recipe(**changes): two classes, one band, pairs under tmp_path, a tiny U-Net."""

    def make(**changes: Any) -> TrainRecipe:
        value: dict[str, Any] = {
            "name": "tiny",
            "model": {"architecture": "unet", "config": {"depth": 3, "decoder_channels": [16, 8, 8]}},
            "bands": ["grey"],
            "gsd": 10,
            "classes": [
                {"value": 0, "name": "dark", "color": "#000000"},
                {"value": 1, "name": "bright", "color": "#ffffff"},
            ],
            "source": {
                "kind": "pairs",
                "root": str(tmp_path),
                "images": "img/{id}.tif",
                "labels": "lab/{id}.tif",
                "file_bands": ["grey"],
                "ignore": [-1],
            },
            "split": {"kind": "files", "val": ["v*"], "test": ["t*"]},
            "augmentation": {"flips": True},
            "loss": {"parts": {"cross_entropy": 1.0}},
        }
        kind = ChangeRecipe if changes.get("task") == "change" else TrainRecipe
        return kind.model_validate({**value, **changes})

    return make
