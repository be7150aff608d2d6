"""Crops of a world picture against pyproj's azimuthal equidistant projection, at seams and poles too."""

from __future__ import annotations

import gzip

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geoml.errors import DataError, InputError
from geoml.geolocation.training import season, world
from geoml.grid import sphere

VIEWS = st.builds(
    world.View, st.floats(-180, 180), st.floats(-90, 90), st.floats(100, 3000), st.floats(0, 360, exclude_max=True)
)


def smooth(height: int = 180) -> world.World:
    """A world whose colour is the unit vector of the place: no seam and no pole in it."""
    lat = 90 - (np.arange(height) + 0.5) * 180 / height
    lon = (np.arange(2 * height) + 0.5) * 180 / height - 180
    xyz = sphere.to_xyz(*np.meshgrid(lon, lat))
    return world.World(np.rint((xyz + 1) * 127.5).astype(np.uint8))


SMOOTH = smooth()


@settings(max_examples=30)
@given(VIEWS)
def test_ground_is_that_of_pyproj(view):
    lon, lat = world.ground(view, 6)
    r = sphere.EARTH_RADIUS_KM * 1000
    project = pyproj.Proj(proj="aeqd", lat_0=view.lat, lon_0=view.lon, a=r, b=r)
    along = ((np.arange(6) + 0.5) / 6 - 0.5) * view.width * 1000
    right, up = np.meshgrid(along, -along)
    turn = np.radians(view.heading)
    east, north = right * np.cos(turn) + up * np.sin(turn), up * np.cos(turn) - right * np.sin(turn)
    want = project(east, north, inverse=True)
    assert sphere.distance(lon, lat, *want).max() < 0.01


@settings(max_examples=30)
@given(VIEWS)
def test_a_crop_shows_its_ground_everywhere_on_the_sphere(view):
    crop = SMOOTH.crop(view, 16)
    xyz = sphere.to_xyz(*world.ground(view, 16))
    assert np.abs(crop / 127.5 - 1 - xyz).max() < 0.02


@pytest.mark.parametrize(("lon", "lat"), [(180, 10), (-180, 10), (0, 90), (120, -90), (179.9, 89.9)])
def test_a_quarter_turn_of_the_heading_is_a_quarter_turn_of_the_crop(lon, lat):
    still = SMOOTH.crop(world.View(lon, lat, 800, 30), 32)
    turned = SMOOTH.crop(world.View(lon, lat, 800, 120), 32)
    assert np.abs(np.rot90(still).astype(int) - turned).max() <= 1


def test_a_coarse_crop_of_a_fine_pattern_is_grey_and_not_moiré():
    board = ((np.indices((512, 1024)).sum(0) % 2) * 255).astype(np.uint8)
    crop = world.World(np.repeat(board[..., None], 3, 2)).crop(world.View(20, 0, 10_000, 0), 64)
    assert np.abs(crop[20:44, 20:44].astype(int) - 128).max() < 20


def test_places_are_on_land_uniform_and_repeat():
    land = np.zeros((90, 180), bool)
    land[:, 90:] = True
    where = world.places(land, 2000, 3)
    assert (where[:, 0] > -3).all() or np.mean(where[:, 0] > 0) > 0.97
    assert np.mean(where[:, 1] > 30) == pytest.approx(0.25, abs=0.04)  # half of a hemisphere's area is below 30
    assert (where == world.places(land, 2000, 3)).all()
    assert len(np.unique(where, axis=0)) == 2000
    assert world.places(land, 500, 3, south=-10, north=20)[:, 1].min() >= -10
    with pytest.raises(InputError, match="land"):
        world.places(np.zeros((9, 18), bool), 1, 0)


def test_views_keep_to_their_widths():
    seen = world.views(np.zeros((200, 2)), (600.0, 1000.0), 1)
    width, heading = np.array([(v.width, v.heading) for v in seen]).T
    assert 600 <= width.min() < 620 < 980 < width.max() <= 1000
    assert heading.max() - heading.min() > 300


def test_files_that_are_no_world_are_named(tmp_path):
    Image.fromarray(np.zeros((10, 30, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no")
    with pytest.raises(InputError, match="wide"):
        world.read(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        world.read(tmp_path / "broken.jpg")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        world.read_land(tmp_path / "broken.jpg")
    with pytest.raises(InputError, match="width"):
        SMOOTH.crop(world.View(0, 0, 0, 0), 8)


def test_a_mask_of_basemaps_form_is_turned_to_the_north(tmp_path):
    south_first = np.array([[0, 1, 2, 0], [1, 1, 0, 0]], np.uint8)
    (tmp_path / "mask.bin").write_bytes(gzip.compress(south_first.tobytes()))
    assert world.read_land(tmp_path / "mask.bin").tolist() == [[True, True, False, False], [False, True, False, False]]


def test_another_season_is_another_look_of_the_same_shape_that_repeats():
    rgb = np.random.default_rng(0).integers(0, 255, (40, 32, 3), np.uint8)
    looks = [season.augment(rgb, np.random.default_rng(i)) for i in range(20)]
    assert all(x.shape == rgb.shape and x.dtype == np.uint8 for x in looks)
    assert len({x.tobytes() for x in looks}) == 20
    assert (season.augment(rgb, np.random.default_rng(4)) == looks[4]).all()


def test_snow_falls_on_land_and_plants_change_but_water_stays_blue():
    sea = np.tile(np.array([10, 40, 110], np.uint8), (64, 64, 1))
    land = np.tile(np.array([60, 90, 40], np.uint8), (64, 64, 1))
    water = [season.augment(sea, np.random.default_rng(i)).mean((0, 1)) for i in range(60)]
    ground = np.array([season.augment(land, np.random.default_rng(i)).mean((0, 1)) for i in range(60)])
    assert all(w[2] > w[0] for w in water)
    assert ground[:, 2].max() > 120  # some snow
    assert (ground[:, 0] > ground[:, 1]).any()  # some brown
    assert (ground[:, 1] > ground[:, 0]).any()  # some green
