"""Tracks of real films: ids from true boxes, and places and speeds against those of another program.

Songdo (geo-trax, 30 frames a second) has boxes, homographies, a log, and what its makers found; the sequences of the
KIT AIS data set have frames and true boxes. The usual setting was chosen on them, as docs/tracking.md says.
"""

from __future__ import annotations

import os
from pathlib import Path

import geopandas
import numpy as np
import pytest
from pyproj import Geod

from tests.benchmarks import track_data

DATA = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "tracking"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there (GEOML_DATA)"),
]


@pytest.mark.parametrize("every", [1, 3, 10, 15])
def test_songdo_at_thirty_to_two_frames_a_second(every: int, tmp_path: Path) -> None:
    found = track_data.songdo(DATA, tmp_path, every)
    assert found["scores"]["geoml"]["idf1"] >= 0.99
    assert found["scores"]["geoml"]["idf1"] >= found["scores"]["nearest centre of the last frame"]["idf1"]


def test_songdo_at_other_moments(tmp_path: Path) -> None:
    """The same at two frames a second from the sixth frame on."""
    found = track_data.songdo(DATA, tmp_path, 15, begin=5)
    assert found["scores"]["geoml"]["idf1"] >= 0.985


def test_songdo_places_and_speeds(tmp_path: Path) -> None:
    track_data.songdo(DATA, tmp_path, 1)
    joined = track_data.against_geotrax(DATA, geopandas.read_parquet(tmp_path / "songdo.parquet"))
    assert len(joined) == 19_787
    assert np.hypot(joined["x"] - joined["Local_X"], joined["y"] - joined["Local_Y"]).max() < 0.02
    *_, apart = Geod(ellps="WGS84").inv(joined["lon"], joined["lat"], joined["Longitude"], joined["Latitude"])
    assert np.max(apart) < 0.02
    off = (joined["speed_kmh"] - joined["Vehicle_Speed"]).abs().dropna()
    assert off.median() <= 0.6
    assert off.quantile(0.95) <= 2.5
    # what drives is said to, and of what stands at most every third position is said to move
    assert joined[joined["Vehicle_Speed"] > 5]["moving"].mean() > 0.995
    assert joined[joined["Vehicle_Speed"] < 1]["moving"].mean() < 0.35


@pytest.mark.slow
def test_kit_found_by_the_shipped_model(tmp_path: Path) -> None:
    found = track_data.kit(DATA, tmp_path, "b", model="kit-cars")
    assert found["scores"]["geoml"]["hota"] >= 0.65
    assert found["scores"]["geoml"]["idf1"] >= found["scores"]["nearest centre of the last frame"]["idf1"]


@pytest.mark.parametrize(("sequence", "least"), [("a", 0.99), ("b", 0.98)])
def test_kit_with_frames_placed_by_keypoints(sequence: str, least: float, tmp_path: Path) -> None:
    found = track_data.kit(DATA, tmp_path, sequence)
    assert found["unplaced"] == []
    assert found["scores"]["geoml"]["idf1"] >= least
    tracks = geopandas.read_parquet(tmp_path / f"kit_{sequence}.tracks.parquet")
    assert (tracks["id"] > 0).all()
