"""Where pixels lie: north up, between 180° west and east, and refused where they cannot be placed."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError, InputError
from geoml.io.cubes.place import check_range, check_same, from_position, grid
from geoml.io.cubes.spec import Position

SPHERE = pyproj.CRS.from_proj4("+proj=longlat +R=6371229").to_wkt()


@given(st.integers(1, 60), st.integers(-7, 7), st.data())
def test_longitudes_come_home_and_columns_with_them(count: int, turns: int, data: st.DataObject) -> None:
    """Every column of a grid around the Earth, wherever it begins, is found at the longitude that it has."""
    width = 2 * count
    pixel = 360 / width
    first = data.draw(st.integers(0, width - 1)) * pixel + turns * 360
    made = grid(Affine(pixel, 0, first - pixel / 2, 0, -1, 2), SPHERE, (4, width))
    stored = (first + np.arange(width) * pixel) % 360
    read = np.concatenate([stored[s] for s in made.stored_columns(slice(0, width))])
    here = made.geobox.affine.c + (np.arange(width) + 0.5) * pixel
    assert np.abs(here).max() <= 180 + 1e-6
    np.testing.assert_allclose((here - read + 180) % 360 - 180, 0, atol=1e-6)


@given(st.integers(0, 9), st.integers(1, 10), st.integers(0, 9))
def test_a_window_is_the_same_columns_as_the_whole(start: int, size: int, origin: int) -> None:
    made = grid(Affine(36, 0, origin * 36 - 18, 0, -1, 2), SPHERE, (4, 10))
    stop = min(start + size, 10)
    columns = np.arange(10)
    whole = np.concatenate([columns[s] for s in made.stored_columns(slice(0, 10))])
    part = np.concatenate([columns[s] for s in made.stored_columns(slice(start, stop))])
    np.testing.assert_array_equal(part, whole[start:stop])


def test_a_part_of_the_world_is_moved_whole() -> None:
    made = grid(Affine(1.875, 0, 224.0625, 0, -1.25, 60.625), SPHERE, (37, 49))
    assert (made.geobox.affine.c, made.turned) == (-135.9375, 0)
    across = grid(Affine(1, 0, 170, 0, -1, 10), SPHERE, (5, 20))
    assert abs(across.geobox.affine.c) == 170 or across.geobox.affine.c == -190
    assert across.turned == 0


def test_south_up_is_turned_over() -> None:
    made = grid(Affine(1, 0, 0, 0, 1, 40), SPHERE, (10, 8))
    assert tuple(made.geobox.affine)[3:6] == (0, -1, 50)
    assert made.stored_rows(slice(0, 3)) == slice(7, 10)


TAGS = {
    "crs": "+proj=stere +lat_0=90 +lon_0=0.0 +lat_ts=60.0 +a=6378.137 +b=6356.752 +x_0=0 +y_0=0",
    "dx": "1",
    "dy": "-1",
    "column": "0",
    "row": "3650",
    "corners": "0 49.362 0 55.973999 10.856 55.389 9.0089998 48.895",
}
KNMI = Position(crs="crs", pixel=("dx", "dy"), offset=("column", "row"), unit="km", corners="corners")


def test_a_position_in_kilometres_of_attributes() -> None:
    """The corners that KNMI declares are those of its own software."""
    box = from_position(KNMI, TAGS, Affine.identity(), None, (765, 700)).geobox
    assert tuple(box.affine)[:6] == (1000, 0, 0, 0, -1000, -3_650_000)
    to = pyproj.Transformer.from_crs(str(box.crs), "EPSG:4326", always_xy=True)
    np.testing.assert_allclose(to.transform(0, -3_650_000), (0, 55.974), atol=2e-3)
    np.testing.assert_allclose(to.transform(700_000, -4_415_000), (9.009, 48.895), atol=2e-3)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"row": "3649"}, "corners .* pixels off"),
        ({"dx": "one"}, "attribute dx is 'one'"),
        ({"corners": "0 1 2"}, "attribute corners"),
        ({"crs": "+proj=nonsense"}, "position.crs"),
    ],
)
def test_attributes_that_disagree_are_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(DataError, match=why):
        from_position(KNMI, {**TAGS, **changes}, Affine.identity(), None, (765, 700))


def test_a_lost_attribute_is_named() -> None:
    with pytest.raises(DataError, match="attribute row does not exist"):
        from_position(KNMI, {k: v for k, v in TAGS.items() if k != "row"}, Affine.identity(), None, (765, 700))


@pytest.mark.parametrize(
    ("transform", "crs", "shape", "why"),
    [
        (Affine.identity(), SPHERE, (4, 4), "position.pixel"),
        (Affine(1, 0, 0, 0, -1, 40), None, (4, 4), "position.crs"),
        (Affine(1, 0.5, 0, 0, -1, 40), SPHERE, (4, 4), "turned or mirrored"),
        (Affine(-1, 0, 0, 0, -1, 40), SPHERE, (4, 4), "turned or mirrored"),
        (Affine(1, 0, 0, 0, -1, 40), SPHERE, (4, 361), "more than once"),
        (Affine(1, 0, 0, 0, -1, 4000), SPHERE, (4, 4), "nowhere on the Earth"),
        (Affine(1, 0, 0, 0, -1, 40), SPHERE, (10**6, 10**6), "declares"),
        (Affine(1, 0, float("nan"), 0, -1, 40), SPHERE, (4, 4), "position.pixel"),
    ],
)
def test_what_has_no_place_is_refused(transform: Affine, crs: str | None, shape: tuple[int, int], why: str) -> None:
    with pytest.raises(DataError, match=why):
        grid(transform, crs, shape)


def test_an_extent_that_is_expected_is_checked() -> None:
    place = Affine(1, 0, 10, 0, -1, 40)
    from_position(Position(extent=(10, 36, 14, 40)), {}, place, SPHERE, (4, 4))
    with pytest.raises(DataError, match=r"4 pixels off; expected position.extent"):
        from_position(Position(extent=(14, 36, 18, 40)), {}, place, SPHERE, (4, 4))


def test_other_grids_are_told_apart() -> None:
    one = grid(Affine(1, 0, 10, 0, -1, 40), SPHERE, (4, 4))
    check_same(one, grid(Affine(1, 0, 10, 0, -1, 40), SPHERE, (4, 4)))
    for other, why in (
        (grid(Affine(1, 0, 10, 0, -1, 40), SPHERE, (4, 5)), "5 x 4 pixels; expected 4 x 4"),
        (grid(Affine(1, 0, 10.5, 0, -1, 40), SPHERE, (4, 4)), "0.5 pixels off"),
        (grid(Affine(1, 0, 10, 0, 1, 36), SPHERE, (4, 4)), "another way"),
        (grid(Affine(1, 0, 10, 0, -1, 40), "EPSG:32632", (4, 4)), "CRS"),
    ):
        with pytest.raises(DataError, match=why):
            check_same(one, other)


@pytest.mark.parametrize("part", [slice(-1, 3), slice(0, 9), slice(3, 3), slice(0, 4, 2)])
def test_windows_lie_inside(part: slice) -> None:
    with pytest.raises(InputError, match="rows"):
        check_range(part, 8, "rows")
