"""Ground to image and back, beside shareloc and GDAL."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import RPCTransformer

from geoml.cube.stereo.rpc import SensorModel
from geoml.errors import DataError
from geoml.io.rpc import read_rpc
from geoml.testing.stereo import made_rpc, rasterio_rpc

RPC = made_rpc(256, 0.5, (0.05, 0.2), first=(300, 200))

LON, LAT = np.array([5.19, 5.2, 5.25, 5.35]), np.array([44.2, 44.206, 44.15, 44.08])
H = np.array([300.0, 550.0, 1200.0, 1900.0])
ROW, COLUMN = np.array([5100.5, 5300.25, 20000.0, 40000.0]), np.array([5000.0, 5250.75, 19000.0, 38000.0])
# of shareloc 0.3.0: GeoModel(FILE, "RPC").inverse_loc(LON, LAT, H) and .direct_loc_h(ROW, COLUMN, H)
SHARELOC = {
    "left": (
        [[6705.660550704766, 5491.278609926672, 18199.894690790352, 34162.992998751724],
         [4454.82116774237, 6028.91876683245, 13669.451749881533, 29246.130558104946]],
        [[5.193281317064467, 5.195052741150405, 5.283829711149496, 5.405561196100528],
         [44.2073368178536, 44.20678566047957, 44.14235703863578, 44.05428081143061]],
    ),
    "right": (
        [[6672.093104460944, 5317.467182535214, 17432.6826524226, 32738.67268354511],
         [4416.860537071247, 6028.988145594569, 13726.202227238839, 29301.762659132408]],
        [[5.193529739894119, 5.195041491839981, 5.283810411444585, 5.405865378806128],
         [44.20731258738015, 44.20597839612554, 44.13880466679058, 44.047426388210816]],
    ),
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("side", ["left", "right"])
def test_equal_to_shareloc(side: str) -> None:
    """Shareloc counts from the corner of the first pixel, RPC from its centre: half a pixel, both ways."""
    folder = Path(os.environ["GEOML_DATA"]) / "elevation" / "stereo_ventoux"
    sensor = SensorModel(read_rpc(folder / f"{side}_image.geom"))
    there, back = SHARELOC[side]
    np.testing.assert_allclose(sensor.forward(LON, LAT, H) + 0.5, there, rtol=0, atol=1e-8)
    np.testing.assert_allclose(sensor.inverse(ROW - 0.5, COLUMN - 0.5, H), back, rtol=0, atol=1e-10)


def test_equal_to_gdal() -> None:
    """Forward only: back, GDAL stops at a tenth of a pixel. RPC_HEIGHT is added to heights, and both count."""
    lon, lat = RPC.offsets[3] + np.array([-2e-4, 0, 1e-4]), RPC.offsets[2] + np.array([1e-4, 0, -3e-4])
    h = np.array([250.0, 300, 420])
    ours = SensorModel(RPC).forward(lon, lat, h)
    for extra, options in ((0.0, {}), (100.0, {"RPC_HEIGHT": 100.0})):
        with RPCTransformer(rasterio_rpc(RPC), **options) as theirs:
            found = np.stack(theirs.rowcol(lon, lat, zs=h - extra, op=lambda v: v))
        np.testing.assert_allclose(ours + 0.5, found, rtol=0, atol=1e-7)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.5, 0.5), st.floats(-20, 20))
def test_there_and_back(row: float, column: float, h: float, shift: float) -> None:
    sensor = SensorModel(RPC, np.array([[shift, 0.5, -0.2], [-shift, 0.1, 0.3]]))
    places = [np.array([v * RPC.scales[k] + RPC.offsets[k]]) for k, v in ((0, row), (1, column), (4, h))]
    lon, lat = sensor.inverse(*places)
    np.testing.assert_allclose(sensor.forward(lon, lat, places[2]), np.stack(places[:2]), rtol=0, atol=2e-6)


def test_what_cannot_be_seen_is_refused() -> None:
    with pytest.raises(DataError, match="no ground"):
        SensorModel(RPC).inverse(np.array([1e7]), np.array([0.0]), np.array([0.0]))


def test_a_denominator_with_zeros_is_refused() -> None:
    below = RPC.line_den.copy()
    below[1] = 1.5
    with pytest.raises(DataError, match="has zeros"):
        SensorModel(replace(RPC, line_den=below))
