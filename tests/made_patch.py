"""A made patch of eo-learn: what is usual in the year, an autoregression around it, and clouds; all of it known."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

START = dt.datetime(2020, 1, 1, 10, tzinfo=dt.UTC)
SHAPE = (12, 10)
LEFT = 0.98
"""Of an anomaly, what is left of it a day later."""
NEVER, THIN = (slice(0, 2), slice(0, 3)), (slice(10, 12), slice(0, 2))
"""Where nothing is ever clear, and where it is on three days only."""


@dataclass(frozen=True)
class Patch:
    """``days`` after `START` that have an image, (time, y, x) NDVI and where there are clouds."""

    days: NDArray[np.int64]
    ndvi: NDArray[np.float32]
    clouds: NDArray[np.bool_]


def patch(days: int = 900, seed: int = 0) -> Patch:
    """An image every five or ten days, at times that are some minutes apart."""
    random = np.random.default_rng(seed)
    usual = 0.5 + 0.2 * np.sin(2 * np.pi * np.arange(days) / 365.2425)
    anomaly = np.zeros((days, *SHAPE))
    anomaly[0] = random.normal(0, 0.1, SHAPE)
    for day in range(1, days):
        anomaly[day] = LEFT * anomaly[day - 1] + random.normal(0, 0.1 * (1 - LEFT**2) ** 0.5, SHAPE)
    at = np.cumsum(random.choice([5, 10], days // 5))
    at = at[at < days]
    clouds = np.repeat(np.repeat(random.random((len(at), 6, 5)) < 0.4, 2, 1), 2, 2)
    clouds[random.random(len(at)) < 0.2] = True
    clouds[:, *NEVER] = True
    clouds[:, *THIN] = True
    clouds[[3, 9, 15], *THIN] = False
    return Patch(at, (usual[at, None, None] + anomaly[at]).astype(np.float32), clouds)


def time_of(day: int, hours: int = 2) -> str:
    """A time on a day, by default after its image."""
    return f"{START + dt.timedelta(days=int(day), hours=hours):%Y-%m-%dT%H:%M:%SZ}"


def write(made: Patch, folder: Path) -> Path:
    """As eo-learn writes it, and beside it FOLDER.yaml."""
    for name, values in (("data/NDVI", made.ndvi), ("mask/CLM", made.clouds.astype(np.uint8))):
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values[..., None])
    times = [START + dt.timedelta(days=int(d), minutes=int(7 * d % 15)) for d in made.days]
    (folder / "timestamps.json").write_text(json.dumps([f"{t:%Y-%m-%dT%H:%M:%S}" for t in times]))
    west, north = 500_000, 5_200_000
    east, south = west + 10 * SHAPE[1], north - 10 * SHAPE[0]
    ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    (folder / "bbox.geojson").write_text(json.dumps({"crs": crs, "type": "Polygon", "coordinates": [ring]}))
    reads = folder.with_suffix(".yaml")
    reads.write_text(
        "driver: EOPatch\nvariable: data/NDVI\nmask: mask/CLM\nname: ndvi\nfile_unit: '1'\nunit: '1'\n"
        "plausible: [-1, 2]\nstep: P1D\n"
    )
    return folder


def recipe(folder: Path, **changed: Any) -> dict[str, Any]:
    """Trained on the first 600 days."""
    source = {"kind": "cube", "path": str(folder), "cube": str(folder.with_suffix(".yaml")), "latest": True,
              "distances": ["P10D", "P40D"], "annual": 1, "least": 8}  # fmt: skip
    return {
        "name": "greenness", "task": "forecast", "source": source, "architecture": "damped", "history": 40,
        "leads": ["P5D", "P10D", "P20D"], "chip_size": 16,
        "split": {"train": "2020-01-01/2021-08-22", "test": "2021-08-30/2022-06"}, **changed,
    }  # fmt: skip
