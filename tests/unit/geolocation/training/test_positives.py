"""Positives on a made catalog: one ground at four dates, each with its own colours, clouds and gaps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage

from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.training.positives import DateStack, Positive, from_files, from_stac, near, positives
from geoml.testing import BAD_QUALITY, Scene, write_catalog, write_cog

GSD, SIZE, SIDE = 10.0, 192, 32
DATES = ("2018-06-01/2018-08-31", "2020-06-01/2020-08-31", "2022-06-01/2022-08-31")

# affine 3 deprecates the operator that odc-geo 0.5.3 uses for its geoboxes
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


def ground() -> np.ndarray:
    """(H, W) what lies there, mean 0 and standard deviation 1."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(SIZE, SIZE)), 2)
    return np.asarray(noise / noise.std())


def seen(date: int) -> np.ndarray:
    """(3, H, W) uint16: the ground in the colours of a date, with noise of its own."""
    rng = np.random.default_rng(10 + date)
    gain = rng.uniform(200, 500, (3, 1, 1)) * np.array([1, -1, 1]).reshape(3, 1, 1)
    return np.asarray(3000 + gain * ground() + rng.normal(0, 40, (3, SIZE, SIZE)), np.uint16)


def scene(date: int, year: int, **changes: object) -> Scene:
    return Scene(
        id=f"s{year}",
        data=seen(date),
        bands=("red", "green", "blue"),
        datetime=f"{year}-07-01T12:00:00Z",
        quality=np.zeros((SIZE, SIZE), np.uint8),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Scene]]:
    """The first year has a cloud over its north-west, the second lacks its last columns."""
    folder = tmp_path_factory.mktemp("catalogs")
    scenes = [scene(k, year) for k, year in enumerate((2018, 2020, 2022))]
    assert scenes[0].quality is not None
    scenes[0].quality[:64, :64] = BAD_QUALITY
    scenes[1].data[:, :, 150:] = 0
    write_catalog(folder / "made", scenes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_CATALOGS", str(folder))
        yield "made", scenes[0]


def stacked(world: tuple[str, Scene], dates: tuple[str, ...] = DATES, **options: object) -> DateStack:
    name, first = world
    return from_stac(name, "made", first.bbox(inner=0.02), dates, GSD, **options)  # type: ignore[arg-type]


def at(tiles: list[Positive]) -> np.ndarray:
    return np.array([tile.place for tile in tiles])


def test_pairs_show_the_same_ground(world: tuple[str, Scene]) -> None:
    stack = stacked(world)
    tiles = positives(stack, SIDE)
    assert len(tiles) > 20
    box, truth = stack.geobox, ground()
    assert box is not None
    first = world[1]
    top = round((first.origin[1] - box.affine.f) / GSD)
    left = round((box.affine.c - first.origin[0]) / GSD)
    for one in tiles:
        y, x = (round(v - SIDE / 2) for v in one.place)
        there = truth[y + top : y + top + SIDE, x + left : x + left + SIDE]
        for picture in one.pictures:
            for band, sign in zip(np.moveaxis(picture, -1, 0), (1, -1, 1), strict=True):
                assert sign * np.corrcoef(band.ravel(), there.ravel())[0, 1] > 0.9


def test_only_dates_that_are_known_there(world: tuple[str, Scene]) -> None:
    stack = stacked(world)
    tiles = positives(stack, SIDE)
    assert {one.dates for one in tiles} == {(0, 1, 2), (1, 2), (0, 2)}
    for one in tiles:
        y, x = (round(v - SIDE / 2) for v in one.place)
        share = stack.valid[:, y : y + SIDE, x : x + SIDE].mean((1, 2))
        assert set(one.dates) == set(np.flatnonzero(share >= 0.98))
        assert len(one.pictures) == len(one.dates)


def test_dates_of_one_item_are_no_pair(world: tuple[str, Scene]) -> None:
    stack = stacked(world, (DATES[0], "2018-01-01/2018-12-31", DATES[2]))
    assert set(stack.pairs) == {(0, 2), (2, 0), (1, 2), (2, 1)}
    assert {one.dates for one in positives(stack, SIDE)} == {(0, 1, 2)}
    with pytest.raises(InputError, match="different items"):
        stacked(world, (DATES[0], "2018-01-01/2018-12-31"))


def test_tiles_lie_as_far_apart_as_asked(world: tuple[str, Scene]) -> None:
    stack = stacked(world)
    places = at(positives(stack, SIDE, 8))
    apart = np.abs(places[:, None] - places[None]).max(-1)
    assert np.unique(apart)[1] == 8
    np.testing.assert_array_equal(near(places, SIDE), apart < SIDE / 2)
    places = at(positives(stack, SIDE))
    assert not (near(places, SIDE) & ~np.eye(len(places), dtype=bool)).any()


def test_places_are_where_the_ground_is(world: tuple[str, Scene]) -> None:
    stack = stacked(world)
    places = at(positives(stack, SIDE))
    west, south, east, north = world[1].bbox()
    lon, lat = stack.lonlat(places).T
    assert ((lon > west) & (lon < east) & (lat > south) & (lat < north)).all()
    assert np.corrcoef(lat, places[:, 0])[0, 1] < -0.99


def test_files_of_other_shapes_share_a_grid(tmp_path: Path) -> None:
    first = scene(0, 2018)
    paths = [tmp_path / f"{k}.tif" for k in range(2)]
    for path, data, cut in zip(paths, (seen(0), seen(1)), (0, 7), strict=True):
        stored = np.clip((data - 1000) / 16, 1, 255).astype(np.uint8)[:, cut:]
        x, y = first.origin
        there = first.transform @ type(first.transform).translation(0, cut)
        assert (there.c, there.f) == (x, y - cut * GSD)
        write_cog(path, stored, crs=first.crs, transform=there, nodata=0)
    found = from_files(paths, GSD)
    assert found.pictures.shape == (2, SIZE - 7, SIZE, 3)
    assert abs(np.corrcoef(found.pictures[0, ..., 0].ravel(), found.pictures[1, ..., 0].ravel())[0, 1]) > 0.9
    np.testing.assert_array_equal(found.pictures[1, ..., 2], np.clip((seen(1)[2, 7:] - 1000) / 16, 1, 255).astype("u1"))
    x, y = first.origin
    part = from_files(paths, GSD, bounds=(x + 200, y - 900, x + 900, y - 300))
    assert part.pictures.shape == (2, 60, 70, 3)
    np.testing.assert_array_equal(part.pictures, found.pictures[:, 23:83, 20:90])
    with pytest.raises(InputError, match="share nothing"):
        from_files(paths, GSD, bounds=(0, 0, 10, 10))
    with pytest.raises(InputError, match="two or more"):
        from_files(paths[:1], GSD)
    with pytest.raises(DataError, match="bands"):
        from_files(paths, GSD, positions=(1, 2, 4))


def test_what_cannot_be_is_refused(world: tuple[str, Scene]) -> None:
    with pytest.raises(NothingFound):
        stacked(world, (DATES[0], "2030-01-01/2030-12-31"))
    with pytest.raises(InputError, match="stretch"):
        stacked(world, stretch=(1.0, 1.0))
    pictures, valid = np.zeros((2, 40, 40, 3), np.uint8), np.ones((2, 40, 40), bool)
    made = DateStack(pictures, valid, (frozenset({"a"}), frozenset({"b"})))
    with pytest.raises(NothingFound, match="no tile"):
        positives(made, 64)
    with pytest.raises(InputError, match="expected"):
        DateStack(pictures[:, :, :, :2], valid, made.items)
    with pytest.raises(InputError, match="georeference"):
        made.lonlat(np.zeros((1, 2)))
    assert near(np.array([[0.0, 0.0], [3.0, 3.0], [0.0, 4.0]]), 8).tolist() == [
        [True, True, False],
        [True, True, True],
        [False, True, True],
    ]
