"""The quadtree of cells: every place in exactly one box, and ids that follow from the bounds."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.geolocation.density import cells
from geoml.grid import sphere

lons = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 0.0, -1e-300, 90.0]))
lats = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 45.0]))
many = st.lists(st.tuples(lons, lats), min_size=1, max_size=60)


def clusters(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Places around four, one of them across the antimeridian and one at the north pole."""
    rng = np.random.default_rng(seed)
    centre = np.array([(10.0, 50.0), (179.9, -20.0), (0.0, 90.0), (-70.0, -30.0)])[rng.integers(0, 4, n)]
    return sphere.destination(centre[:, 0], centre[:, 1], rng.uniform(0, 360, n), rng.gamma(2, 100, n))


@settings(max_examples=50)
@given(many, st.integers(1, 10), st.integers(1, 12))
def test_every_place_lies_in_one_box_with_at_most_so_many(
    places: list[tuple[float, float]], most: int, depth: int
) -> None:
    lon, lat = np.array(places).T
    made = cells.build(lon, lat, most, 1, depth)
    found = made.find(lon, lat)
    assert (found >= 0).all()
    np.testing.assert_array_equal(np.bincount(found, minlength=len(made)), made.count)
    assert all(n <= most for n, name in zip(made.count, made.ids, strict=True) if len(name) < depth)
    x = sphere.wrap(lon)
    w, s, e, n = made.bounds.T
    within = (x[:, None] >= w) & (x[:, None] < e) & (lat[:, None] >= s) & ((lat[:, None] < n) | (n == 90))
    np.testing.assert_array_equal(within.argmax(1), found)
    assert (within.sum(1) == 1).all()


def test_boxes_do_not_overlap_and_leave_nothing_out() -> None:
    lon, lat = clusters()
    made = cells.build(lon, lat, 20, 1, 8)
    boxes = shapely.box(*made.bounds.T)
    tree = shapely.STRtree(boxes)
    assert all(boxes[i].intersection(boxes[j]).area == 0 for i, j in tree.query(boxes, "overlaps").T)
    assert shapely.union_all(boxes).area == pytest.approx(shapely.area(boxes).sum())
    assert made.bounds[:, 0].min() >= -180
    assert made.bounds[:, 2].max() <= 180


def test_seam_and_poles_lie_in_exactly_one_cell() -> None:
    lon, lat = np.meshgrid([-180.0, -90.0, 0.0, 90.0, 180.0, 360.0], [-90.0, -45.0, 0.0, 45.0, 90.0])
    made = cells.build(lon.ravel(), lat.ravel(), 1, 1, 3)
    found = made.find(lon.ravel(), lat.ravel())
    assert (found >= 0).all()
    assert made.find([180.0], [0.0]) == made.find([-180.0], [0.0])
    assert made.find([360.0], [0.0]) == made.find([0.0], [0.0])


def test_means_and_radii_are_on_the_sphere() -> None:
    lon, lat = clusters(2000)
    made = cells.build(lon, lat, 200, 1, 8)
    found = made.find(lon, lat)
    km = sphere.distance(lon, lat, made.lon[found], made.lat[found])
    for k in range(len(made)):
        share = (km[found == k] <= made.radius[k] + 1e-9).mean()
        assert share >= 0.9
        assert share <= 0.9 + 1.01 / made.count[k] + 1e-9
    polar = found[np.argmax(lat)]
    assert made.lat[polar] > 80
    assert (km <= made.reach()[found] + 1e-6).all()


def test_dropped_places_go_to_the_nearest_cell() -> None:
    lon = np.r_[np.full(20, 10.0), np.full(20, -175.0), 170.0]
    lat = np.r_[np.full(20, 50.0), np.full(20, 10.0), 10.0]
    made = cells.build(lon, lat, 10, 5, 4)
    assert len(made) == 2
    found = made.find(lon, lat)
    assert found[-1] == -1
    assert (found[:-1] >= 0).all()
    assert made.assign(lon, lat)[-1] == found[20]  # across the antimeridian
    np.testing.assert_array_equal(made.assign(lon, lat)[:-1], found[:-1])


def test_parents_hold_what_their_cells_hold() -> None:
    lon, lat = clusters()
    made = cells.build(lon, lat, 20, 1, 8)
    for level in range(1, made.depth + 1):
        ids, parent = made.parents(level)
        assert [ids[p] for p in parent] == [c[:level] for c in made.ids]


def test_bounds_tell_the_ids() -> None:
    made = cells.build(*clusters(), 20, 3, 8)
    back = cells.from_bounds(made.bounds, made.lon, made.lat, made.count, made.radius)
    assert back.ids == made.ids
    for name in ("bounds", "lon", "lat", "count", "radius"):
        np.testing.assert_allclose(getattr(back, name), getattr(made, name))


def test_refuses_what_is_no_quadtree() -> None:
    made = cells.build(*clusters(), 50, 1, 6)
    columns = made.lon, made.lat, made.count, made.radius
    with pytest.raises(InputError, match="quadtree"):
        cells.from_bounds(made.bounds - [0, 1, 0, 0], *columns)
    with pytest.raises(InputError, match="without an inside"):
        cells.from_bounds(made.bounds[:, [2, 1, 0, 3]], *columns)


def test_refuses_more_places_for_a_cell_than_there_are() -> None:
    with pytest.raises(InputError, match="least"):
        cells.build(*clusters(), 1, 500, 4)
