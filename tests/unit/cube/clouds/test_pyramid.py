"""The pyramid of a cloud is that of brute force, and of no order and no far point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.cube.clouds.pyramid import NEAREST, PyramidShape, between, grouped, millimetres, pyramid, voxels

Ints = NDArray[np.int64]

places = arrays(np.int64, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(-4_000, 4_000))


@given(places, st.sampled_from([1, 500, 999]))
def test_voxels_hold_the_points_of_a_cell_and_their_mean(points: Ints, side: int) -> None:
    order, count, centroids = voxels(points, side)
    assert sorted(order.tolist()) == list(range(len(points)))
    cells = np.floor_divide(points, side)
    start = 0
    for number, centroid in zip(count.tolist(), centroids, strict=True):
        those = order[start : start + number]
        assert len(np.unique(cells[those], axis=0)) == 1
        assert (centroid == points[those].sum(0) // number).all()
        start += number
    assert len(count) == len(np.unique(cells, axis=0))


@given(places, st.integers(1, 5_000))
def test_groups_are_the_balls_about_their_centres(points: Ints, radius: int) -> None:
    _, _, centres = voxels(points, 2_000)
    source, count, place = grouped(centres, points, radius)
    square = ((points[None] - centres[:, None]) ** 2).sum(2)
    ends = np.cumsum(count)
    for j, (start, end) in enumerate(zip(ends - count, ends, strict=True)):
        assert set(source[start:end].tolist()) == set(np.flatnonzero(square[j] <= radius**2).tolist())
        assert (place[start:end] == points[source[start:end]] - centres[j]).all()


@given(places)
def test_a_place_lies_between_the_nearest_centres_with_ties_by_coordinates(points: Ints) -> None:
    points = points // 1_000 * 1_000  # a grid is full of ties
    _, _, centres = voxels(points, 2_000)
    near, weight = between(points, centres, 4_000)
    order = np.lexsort(centres.T)
    for i, point in enumerate(points):
        ranked = sorted(order.tolist(), key=lambda j: int(((centres[j] - point) ** 2).sum()))
        wanted = [j for j in ranked[:NEAREST] if ((centres[j] - point) ** 2).sum() <= 4_000**2]
        assert [j for j, w in zip(near[i].tolist(), weight[i], strict=True) if w][: len(wanted)] == [
            j for j, w in zip(wanted, weight[i], strict=False) if w
        ]
        assert weight[i].sum() == pytest.approx(1, abs=0.01)


@given(places, st.integers(0, 2**32 - 1))
def test_order_does_not_matter(points: Ints, seed: int) -> None:
    points = np.unique(points, axis=0)
    shuffled = np.random.default_rng(seed).permutation(len(points))
    one, other = (pyramid(p, PyramidShape(500, 3)) for p in (points, points[shuffled]))
    assert (one.count == other.count).all()
    assert sorted(map(tuple, points[one.order].tolist())) == sorted(map(tuple, points[shuffled][other.order].tolist()))
    for a, b in zip(one.groups, other.groups, strict=True):
        assert (a.number == b.number).all()
        assert (a.near == b.near).all()
        assert (a.weight == b.weight).all()


def test_millimetres_are_rounded_once() -> None:
    found = millimetres(np.array([770500.01, -0.0004]), np.array([6277500.0005, 0.0]))
    assert found.tolist() == [[770500010, 6277500000], [0, 0]]
