"""Corners, and vertices that neighbours share."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.vector.polygonise import polygonise
from geoml.vector.rings import Rings, bend, share_vertices


def coverage(classes: NDArray[np.uint8]) -> Rings:
    return polygonise(classes, classes, 255, Window(-3, -4, classes.shape[0] - 3, classes.shape[1] - 4)).rings


maps = arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(maps, st.sampled_from([1, 2, 3, 100]))
def test_shared_vertices_make_a_coverage_and_change_no_shape(classes: NDArray[np.uint8], step: int) -> None:
    before = coverage(classes)
    after = bend(share_vertices(before), step).polygons()
    assert shapely.coverage_is_valid(after)
    assert shapely.equals(before.polygons(), after).all()


def test_a_plain_trace_is_no_coverage() -> None:
    assert not shapely.coverage_is_valid(coverage(np.array([[1, 1], [2, 3]], np.uint8)).polygons())


def test_a_vertex_on_every_multiple_of_the_step() -> None:
    bent = bend(Rings.of(np.array([shapely.box(-5, 1, 6, 2)])), 4)
    assert sorted(set(bent.coords[:, 0])) == [-5, -4, 0, 4, 6]


@settings(max_examples=60, deadline=None)
@given(maps)
def test_forms_are_those_of_geos(classes: NDArray[np.uint8]) -> None:
    rings = coverage(classes)
    expected = Rings.of(shapely.normalize(rings.polygons()))
    for made, form in (
        (rings.normalized(), expected),
        (share_vertices(rings).normalized(), share_vertices(expected)),
    ):
        assert (shapely.to_wkb(made.polygons()) == shapely.to_wkb(form.polygons())).all()
        np.testing.assert_array_equal(made.bounds(), shapely.bounds(form.polygons()))
    odd = rings.moved(rings.coords * [1 / 3, -np.pi] + 1e5)
    np.testing.assert_array_equal(odd.areas(), shapely.area(odd.polygons()))  # to the last bit
    assert (odd.signed()[odd.outer()] < 0).all()


@settings(max_examples=50, deadline=None)
@given(maps, st.randoms(use_true_random=False))
def test_taken_and_joined(classes: NDArray[np.uint8], random: Random) -> None:
    rings = coverage(classes)
    whole = rings.polygons()
    order = np.array(random.sample(range(len(rings)), len(rings)))
    assert (rings.take(order).polygons() == whole[order]).all()
    mask = order % 2 == 0
    both = Rings.joined([rings.take(mask), rings.take(np.empty(0, np.intp)), rings.take(~mask)])
    assert (both.polygons() == np.concatenate([whole[mask], whole[~mask]])).all()


def test_empty_arrays_stay_empty() -> None:
    none = Rings.of(np.empty(0, object))
    assert len(none) == len(bend(share_vertices(none), 4)) == len(none.normalized()) == len(none.bounds()) == 0
    assert len(Rings.joined([])) == len(none.polygons()) == len(none.areas()) == 0


def test_other_geometries_are_refused() -> None:
    with pytest.raises(InputError, match="polygons only"):
        Rings.of(np.array([shapely.Point(0, 0)]))
