"""Corners, and vertices that neighbours share."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cog.polygonise import polygonise
from geoml.vector.rings import Rings, share_vertices, straighten


def coverage(classes: NDArray[np.uint8]) -> NDArray[np.object_]:
    return polygonise(classes, classes, 255, Window(-3, -4, classes.shape[0] - 3, classes.shape[1] - 4)).geometry


maps = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2))


@settings(max_examples=100, deadline=None)
@given(maps, st.sampled_from([None, 1, 2, 3]))
def test_shared_vertices_make_a_coverage_and_change_no_shape(classes: NDArray[np.uint8], step: int | None) -> None:
    before = coverage(classes)
    after = share_vertices(before, step)
    assert shapely.coverage_is_valid(after)
    assert shapely.equals(before, after).all()


@settings(max_examples=100, deadline=None)
@given(maps, st.sampled_from([None, 2]))
def test_straighten_undoes_it(classes: NDArray[np.uint8], step: int | None) -> None:
    before = coverage(classes)
    after = straighten(share_vertices(before, step))
    assert (shapely.normalize(after) == shapely.normalize(before)).all()


def test_a_plain_trace_is_no_coverage() -> None:
    assert not shapely.coverage_is_valid(coverage(np.array([[1, 1], [2, 3]], np.uint8)))


def test_a_vertex_on_every_multiple_of_the_step() -> None:
    shared = share_vertices(np.array([shapely.box(-5, 1, 6, 2)]), 4)[0]
    assert sorted(set(shapely.get_coordinates(shared)[:, 0])) == [-5, -4, 0, 4, 6]


def test_straighten_drops_the_vertex_where_a_ring_starts() -> None:
    square = shapely.Polygon([(1, 0), (2, 0), (2, 2), (0, 2), (0, 0)])
    assert shapely.get_num_coordinates(straighten(np.array([square]))[0]) == 5


def test_empty_arrays_stay_empty() -> None:
    none = np.empty(0, object)
    assert len(share_vertices(none, 4)) == len(straighten(none)) == 0


def test_other_geometries_are_refused() -> None:
    with pytest.raises(InputError, match="polygons only"):
        Rings.of(np.array([shapely.Point(0, 0)]))
