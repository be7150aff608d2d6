"""Real drone frames: a frame is found among its neighbours, one of another field is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyproj
import pytest
from PIL import Image

from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.match import locate
from tests.geolocation_frames import Frame, frames

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif("GEOML_DATA" not in os.environ, reason="GEOML_DATA is not set"),
]

CHOSEN = Acceptance(21.9, -43.0, 20)
"""As `geoml.geolocation.matching.decoys.of_frames` chose on all the even frames of Caliterra."""


def load(name: str) -> Frame:
    with Image.open(Path(os.environ["GEOML_DATA"]) / "geolocation" / name) as image:
        gps = image.getexif().get_ifd(0x8825)
        lat, lon = (float(d) + float(m) / 60 + float(s) / 3600 for d, m, s in (gps[2], gps[4]))
        return Frame(name, np.asarray(image.convert("RGB")), -lon, lat)


def test_a_frame_among_its_neighbours_and_one_of_another_field() -> None:
    reference = frames([load(f"drone_caliterra/IMG_{k}.jpg") for k in (9366, 9368, 9370, 9372)])
    assert all(m is not None for m in reference.network.matrices)
    query = load("drone_caliterra/IMG_9369.jpg")
    found = locate(query.image, reference, CHOSEN)
    assert found.status == "ok", found.reason
    away = pyproj.Geod(ellps="WGS84").inv(query.lon, query.lat, found.lon, found.lat)[2]
    assert away < 25  # the GPS of this camera is off by ten metres
    other = locate(load("drone_seneca/IMG_0460.jpg").image, reference, CHOSEN)
    assert other.status == "abstained"
