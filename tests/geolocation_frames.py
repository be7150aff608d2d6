"""Frames of a flight, and what is searched among them, for tests and benchmarks of matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from geoml.geolocation.matching.frames import FrameReference, frame_keypoints, overlaps


class Frame(NamedTuple):
    name: str
    image: np.ndarray
    lon: float
    lat: float


def frames(given: Sequence[Frame], sigma: float = 5.0) -> FrameReference:
    """The reference of frames, as `geoml.geolocation.matching.references.of_pictures` makes it."""
    keypoints, shapes = zip(*(frame_keypoints(f.image) for f in given), strict=True)
    lonlat = np.array([(f.lon, f.lat) for f in given], float)
    ties = overlaps(keypoints, shapes)
    return FrameReference([f.name for f in given], keypoints, shapes, lonlat, sigma, ties)
