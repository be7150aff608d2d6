"""The real films of `tests.benchmarks.track` and of the tests, as `geoml.track` takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import geoml

TO_PLANE = np.array([
    [0.0301323023, -0.000107612969, 170000.850], [-0.000107623732, -0.0301334248, 532316.903], [0, 0, 1],
])  # fmt: skip
"""Pixels of Songdo's orthophoto to EPSG:5186, as fitted to the published positions."""
KIT_GSD = 0.11
"""Metres of a pixel, by the length of cars."""
KIT_FPS = 2.0
"""The source does not say it: by this cars drive at up to 36 km/h."""


def boxes(data: Path) -> NDArray[np.float64]:
    """Songdo's boxes as MOTChallenge has them."""
    raw = np.loadtxt(data / "geotrax_songdo" / "tracks_pixels.txt", delimiter=",")
    frame, key, x, y, width, height = raw[:, :6].T
    return np.column_stack([frame, key, x - width / 2, y - height / 2, width, height, np.ones(len(raw)), raw[:, 10]])


def songdo(data: Path, out: Path, every: int, begin: int = 0) -> dict[str, Any]:
    """Songdo's true boxes, one frame of ``every``, as ``songdo.parquet`` in ``out``: what is said of it."""
    folder = data / "geotrax_songdo"
    rows = boxes(data)
    np.savetxt(out / "boxes.txt", rows[rows[:, 0] >= begin], delimiter=",", fmt="%.4f")
    ways = np.loadtxt(folder / "frame_to_reference.txt", delimiter=",")
    np.savetxt(out / "ways.txt", ways[ways[:, 0] >= max(begin, 1)], delimiter=",", fmt="%.17g")
    log = (folder / "flight_log.csv").read_text().splitlines()
    (out / "log.csv").write_text("\n".join([log[0], *log[1 + begin :]]))
    plane = TO_PLANE @ np.loadtxt(folder / "reference_to_ortho.txt", delimiter=",").reshape(3, 3)
    np.savetxt(out / "plane.txt", plane.reshape(1, 9), fmt="%.17g")
    return geoml.track(
        None, out / "songdo.parquet", detections=out / "boxes.txt", homographies=out / "ways.txt", log=out / "log.csv",
        reference_homography=out / "plane.txt", crs="EPSG:5186", every=every, truth=out / "boxes.txt",
    )  # fmt: skip


def against_geotrax(data: Path, positions: geopandas.GeoDataFrame) -> pd.DataFrame:
    """Positions of all frames of Songdo beside the published ones. Rows of a frame are in the order of its boxes."""
    known = boxes(data)
    names = pd.DataFrame({"frame": known[:, 0].astype(int), "Vehicle_ID": known[:, 1].astype(int)})
    names = names.sort_values("frame", kind="stable").reset_index(drop=True)
    mine = pd.DataFrame(positions.drop(columns="geometry")).sort_values("frame", kind="stable").reset_index(drop=True)
    assert (names["frame"] == mine["frame"]).all()
    published = pd.read_csv(data / "geotrax_songdo" / "tracks_georeferenced.csv")
    return mine.assign(Vehicle_ID=names["Vehicle_ID"]).merge(
        published, left_on=["frame", "Vehicle_ID"], right_on=["Frame_Number", "Vehicle_ID"]
    )


def kit(data: Path, out: Path, sequence: str, fps: float = KIT_FPS, model: str | None = None) -> dict[str, Any]:
    """True boxes of a KIT sequence, or what ``model`` finds, placed by keypoints, as ``kit_SEQUENCE.parquet``."""
    folder = data / "kit_ais_vehicles" / f"sequence_{sequence}"
    true = folder / "gt" / "gt.txt"
    found = {"detections": true} if model is None else {"model": model, "bands": ("red", "green", "blue")}
    return geoml.track(folder / "img1", out / f"kit_{sequence}.parquet", **found, truth=true, fps=fps, gsd=KIT_GSD)
