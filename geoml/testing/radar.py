"""A synthetic radar: showers that move at a known speed, as GeoTIFF frames with the YAML file that describes them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
import yaml
from affine import Affine
from numpy.typing import NDArray

START = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
"""Of step 0; a step is five minutes."""
MISSING = -1.0


def showers(
    steps: Iterable[int], shape: tuple[int, int] = (120, 160), speed: tuple[float, float] = (1.5, -2.0), seed: int = 0
) -> NDArray[np.float32]:
    """(step, y, x) mm/h of Gaussian showers that move ``speed`` pixels in y and x each step and do not change.

    They wrap around at the edges, so that as much leaves as enters.
    """
    random = np.random.default_rng(seed)
    height, width = (n + 80 for n in shape)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    where = random.random((40, 2)) * (height, width)
    radius, peak = random.uniform(3, 8, 40), random.uniform(1, 12, 40)
    frames = []
    for step in steps:
        rain = np.zeros(shape)
        for (cy, cx), r, p in zip(where, radius, peak, strict=True):
            dy = (y - cy - speed[0] * step + 40 + height / 2) % height - height / 2
            dx = (x - cx - speed[1] * step + 40 + width / 2) % width - width / 2
            rain += p * np.exp(-(dy**2 + dx**2) / (2 * r**2))
        frames.append(rain)
    return np.stack(frames).astype(np.float32)


def write_radar(folder: Path, frames: NDArray[np.float32], first: int = 0, *, crs: str = "EPSG:3035") -> Path:
    """Write (step, y, x) frames of 1 km, NaN where nothing is known, into ``folder``; gives the YAML file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for step, frame in enumerate(frames, first):
        height, width = frame.shape
        about = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": height, "width": width, "crs": crs}
        place = Affine(1000, 0, 4_000_000, 0, -1000, 3_000_000)
        name = f"rain-{START + dt.timedelta(minutes=5 * step):%Y%m%d%H%M}.tif"
        with rasterio.open(folder / name, "w", transform=place, tiled=False, **about) as file:
            file.write(np.where(np.isnan(frame), np.float32(MISSING), frame), 1)
    spec = {
        "title": "Made radar",
        "licence": "CC0-1.0",
        "driver": "GeoTIFF",
        "files": "rain-*.tif",
        "name": "rainfall_rate",
        "file_unit": "mm/h",
        "unit": "mm/h",
        "missing": [MISSING],
        "plausible": [0, 200],
        "step": "PT5M",
        "time": {"source": "name", "pattern": "rain-%Y%m%d%H%M.tif", "label": "end"},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(spec))
    return path


def time_of(step: int) -> str:
    """The time of a step, RFC 3339."""
    return f"{START + dt.timedelta(minutes=5 * step):%Y-%m-%dT%H:%M:%SZ}"
