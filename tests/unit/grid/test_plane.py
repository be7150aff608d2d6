"""The pixel plane: windows and blocks against shapely and plain sets of pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shapely.geometry import box

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window, blocks_touching

corner = st.integers(-3000, 3000)
side = st.integers(0, 400)
windows = st.builds(lambda y, x, h, w: Window(y, x, y + h, x + w), corner, corner, side, side)
full = st.builds(lambda y, x, h, w: Window(y, x, y + 1 + h, x + 1 + w), corner, corner, side, side)
"""Windows with pixels."""
planes = st.builds(
    Plane,
    st.sampled_from(["EPSG:32621", "EPSG:3857"]),
    st.sampled_from([0.3, 2.0, 10.0, 30.0]),
    st.sampled_from([0.0, 0.5]),
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Window, Window]:
    """Two windows that share pixels."""
    a = draw(full)
    y, x = draw(st.integers(a.y0, a.y1 - 1)), draw(st.integers(a.x0, a.x1 - 1))
    up, left, down, right = (draw(side) for _ in range(4))
    return a, Window(y - up, x - left, y + 1 + down, x + 1 + right)


def polygon(w: Window):
    return box(w.x0, w.y0, w.x1, w.y1)


@given(st.one_of(pairs(), st.tuples(full, full)))
def test_windows_meet_as_boxes_do(two: tuple[Window, Window]) -> None:
    a, b = two
    shared = polygon(a).intersection(polygon(b)).area
    meet = a.intersect(b)
    assert (0 if meet.empty else math.prod(meet.shape)) == shared
    assert a.touches(b) == (shared > 0)
    assert a.touches(b) == b.touches(a)
    both = a.union(b)
    assert polygon(both).covers(polygon(a))
    assert polygon(both).covers(polygon(b))


@given(windows, st.integers(0, 50))
def test_expand_and_shrink_are_inverse(window: Window, pixels: int) -> None:
    wide = window.expand(pixels)
    assert wide.shape == (window.shape[0] + 2 * pixels, window.shape[1] + 2 * pixels)
    assert wide.expand(-pixels) == window


@given(full, st.integers(0, 50), st.integers(0, 50))
def test_slices_find_the_same_pixels(window: Window, up: int, left: int) -> None:
    origin = Window(window.y0 - up, window.x0 - left, window.y1 + 3, window.x1 + 5)
    rows, cols = np.mgrid[origin.y0 : origin.y1, origin.x0 : origin.x1]
    cut = window.slices(origin)
    assert rows[cut].shape == window.shape
    assert (rows[cut][0, 0], cols[cut][0, 0]) == (window.y0, window.x0)
    assert (rows[cut][-1, -1], cols[cut][-1, -1]) == (window.y1 - 1, window.x1 - 1)


@given(planes, full)
def test_bounds_and_window_are_inverse(plane: Plane, window: Window) -> None:
    assert plane.window(*plane.bounds(window)) == window


@given(planes, full)
def test_geobox_is_the_window(plane: Plane, window: Window) -> None:
    found = plane.geobox(window)
    assert found.shape == window.shape
    assert tuple(found.boundingbox) == pytest.approx(plane.bounds(window), abs=1e-6)
    assert found.resolution.x == plane.res
    assert found.resolution.y == -plane.res


@given(planes, pairs())
def test_a_pixel_lies_where_it_lies_whoever_asks(plane: Plane, two: tuple[Window, Window]) -> None:
    meet = two[0].intersect(two[1])
    places = []
    for window in two:
        rows, cols = meet.slices(window)
        places.append(plane.geobox(window).affine @ (cols.start + 0.5, rows.start + 0.5))
    assert places[0] == pytest.approx(places[1], abs=1e-6)


@given(planes, full, st.integers(1, 700))
def test_blocks_tile_what_they_touch(plane: Plane, window: Window, size: int) -> None:
    assume(math.prod(window.shape) / size**2 < 2000)
    found = blocks_touching(plane, size, window)
    parts = [b.window.intersect(window) for b in found]
    assert not any(p.empty for p in parts)
    assert sum(math.prod(p.shape) for p in parts) == math.prod(window.shape)  # and none twice:
    assert len({(b.iy, b.ix) for b in found}) == len(found)
    assert all(b.window.y0 % size == 0 and b.window.x0 % size == 0 and b.window.shape == (size, size) for b in found)
    assert found == sorted(found)


@given(pairs(), st.integers(64, 700))
def test_overlapping_requests_share_blocks(two: tuple[Window, Window], size: int) -> None:
    plane = Plane("EPSG:32621", 10.0)
    a, b = two
    meet = a.intersect(b)
    both = set(blocks_touching(plane, size, a)) & set(blocks_touching(plane, size, b))
    assert set(blocks_touching(plane, size, meet)) <= both


def test_an_empty_window_has_no_blocks() -> None:
    assert blocks_touching(Plane("EPSG:32621", 10.0), 512, Window(5, 5, 5, 9)) == []


def test_block_ids_never_change() -> None:
    """Ids are file names and STAC ids of published runs."""
    assert Block(Plane("EPSG:32621", 10.0), 2048, -46, 11).id == "32621-10_2048_y-46_x11"
    assert Block(Plane("EPSG:32621", 30.0, 0.5), 512, 0, -1).id == "32621-30c_512_y0_x-1"
    assert Block(Plane("epsg:4326", 0.0001), 512, 3, 4).id == "4326-0.0001_512_y3_x4"


@given(st.lists(st.tuples(planes, st.integers(64, 4096), corner, corner), min_size=2, max_size=8, unique=True))
def test_other_blocks_have_other_ids(given_blocks: list[tuple[Plane, int, int, int]]) -> None:
    blocks = {Block(*g) for g in given_blocks}
    assert len({b.id for b in blocks}) == len(blocks)


def test_sentinel_and_landsat_phases() -> None:
    """Pixel edges of Sentinel-2 and pixel centres of Landsat fall on multiples of the pixel size."""
    assert Plane("EPSG:32621", 10.0).bounds(Window(-720_000, 60_000, -719_999, 60_001)) == (
        600_000, 7_199_990, 600_010, 7_200_000,
    )  # fmt: skip
    landsat = Plane("EPSG:32621", 30.0, 0.5).geobox(Window(0, 0, 1, 1)).affine
    assert landsat @ (-0.5, -0.5) == pytest.approx((0, 0))
    assert landsat @ (0.5, 0.5) == (30, -30)


@pytest.mark.parametrize(("res", "anchor"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (10.0, 0.25)])
def test_no_plane_of_nonsense(res: float, anchor: float) -> None:
    with pytest.raises(InputError, match=r"res|anchor"):
        Plane("EPSG:32621", res, anchor)


def test_no_blocks_of_no_size() -> None:
    with pytest.raises(InputError, match="block_size"):
        blocks_touching(Plane("EPSG:32621", 10.0), 0, Window(0, 0, 1, 1))
