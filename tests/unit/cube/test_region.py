from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.cube.region import count_inside, inside
from geoml.grid.plane import Plane
from geoml.grid.region import blocks_of, from_bbox, project

PLANE = Plane("EPSG:32633", 10.0)


@pytest.mark.parametrize("size", [64, 100, 512, 4096])
def test_the_pixels_of_a_region_are_the_same_however_it_is_cut(size: int) -> None:
    region = shapely.Polygon([(15.001, 50.0), (15.05, 50.002), (15.03, 50.04), (15.02, 50.01), (15.004, 50.03)])
    part = shapely.difference(region, shapely.Point(15.03, 50.015).buffer(0.003))
    counted = count_inside(part, PLANE, blocks_of(part, PLANE, size))
    box = PLANE.window(*project(part, PLANE.crs).bounds)
    assert counted == inside(part, PLANE.geobox(box)).sum()
    assert counted == pytest.approx(project(part, PLANE.crs).area / 100, rel=0.003)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(15.0, 15.05), st.floats(50.0, 50.05), st.floats(0.0005, 0.03), st.floats(0.0005, 0.03),
    st.sampled_from([64, 96, 256]),
)  # fmt: skip
def test_it_is_the_sum_of_the_masks_of_the_blocks(
    west: float, south: float, width: float, height: float, size: int
) -> None:
    part = from_bbox(west, south, west + width, south + height)
    blocks = blocks_of(part, PLANE, size)
    assert count_inside(part, PLANE, blocks) == sum(int(np.sum(inside(part, b.geobox))) for b in blocks)
