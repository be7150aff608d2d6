"""Places of pixels against pyproj's own geodesic, and the same in every window."""

from __future__ import annotations

import numpy as np
import pyproj

from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window


def test_a_pixel_lies_where_its_centre_does() -> None:
    plane = Plane("EPSG:32621", 30.0, 0.5)
    window = Window(-240_001, 20_000, -239_998, 20_004)
    found = lonlat(plane, window)
    assert found.shape == (2, 3, 4)
    assert found.dtype == np.float32
    geobox = plane.geobox(window)
    to = pyproj.Transformer.from_crs(plane.crs, "EPSG:4326", always_xy=True)
    for row in range(3):
        for col in range(4):
            np.testing.assert_allclose(
                found[:, row, col], to.transform(*(geobox.affine @ (col + 0.5, row + 0.5))), atol=1e-5
            )


def test_a_pixel_has_one_place_in_every_window() -> None:
    plane, whole = Plane("EPSG:3035", 10.0), Window(-320_000, 430_000, -319_960, 430_050)
    part = Window(-319_983, 430_007, -319_970, 430_031)
    np.testing.assert_array_equal(lonlat(plane, part), lonlat(plane, whole)[:, *part.slices(whole)])
