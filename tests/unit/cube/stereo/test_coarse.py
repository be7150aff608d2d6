"""Heights between the places of a lattice."""

from __future__ import annotations

import numpy as np

from geoml.cube.stereo.coarse import CoarseSurface


def test_bilinear_inside_and_unknown_beyond() -> None:
    y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), indexing="ij")
    heights = 10 * x - 3 * y
    heights[3, 4] = np.nan
    surface = CoarseSurface(heights, west=6.0, north=45.0, step=0.1)
    lon, lat = np.array([6.0, 6.25, 6.3, 6.39, 6.4, 6.0]), np.array([45.0, 44.85, 44.8, 44.95, 44.72, 44.65])
    found = surface(lon, lat)
    np.testing.assert_allclose(found[:4], [0, 25 - 4.5, 30 - 6, 39 - 1.5], atol=1e-9)
    assert np.isnan(found[4:]).all()


def test_one_place_is_enough() -> None:
    found = CoarseSurface(np.array([[7.0]]), 6.0, 45.0, 0.1)(np.array([6.0, 6.05]), np.array([45.0, 45.0]))
    assert found[0] == 7
    assert np.isnan(found[1])
