"""Tracing against GDAL's polygonizer, scipy's labels and shapely's idea of a valid polygon."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import scipy.ndimage
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.vector.polygonise import polygonise
from geoml.vector.polygons import Polygons

NODATA = 255
maps = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 7, NODATA]))


def trace(classes: NDArray[np.uint8], confidence: NDArray[np.uint8] | None = None) -> Polygons:
    confidence = np.zeros_like(classes) if confidence is None else confidence
    return polygonise(classes, confidence, NODATA, Window(0, 0, *classes.shape))


def by_gdal(classes: NDArray[np.uint8]) -> list[tuple[int, str]]:
    shapes = rasterio.features.shapes(classes, mask=classes != NODATA, connectivity=4)
    return sorted((int(value), shapely.normalize(shapely.geometry.shape(shape)).wkt) for shape, value in shapes)


def as_sorted(found: Polygons) -> list[tuple[int, str]]:
    shapes = [shape.wkt for shape in shapely.normalize(found.geometry)]
    return sorted(zip(found.value.tolist(), shapes, strict=True))


@settings(max_examples=300, deadline=None)
@given(maps)
def test_equals_gdal(classes: NDArray[np.uint8]) -> None:
    polygons = trace(classes)
    assert as_sorted(polygons) == by_gdal(classes)
    assert shapely.is_valid(polygons.geometry).all()


@settings(max_examples=100, deadline=None)
@given(maps, st.integers(0, 2**32 - 1))
def test_pixels_and_confidence_are_those_of_labels(classes: NDArray[np.uint8], seed: int) -> None:
    confidence = np.random.default_rng(seed).integers(0, 251, classes.shape).astype(np.uint8)
    polygons = trace(classes, confidence)
    expected = []
    for value in np.unique(classes[classes != NODATA]):
        labels, count = scipy.ndimage.label(classes == value)
        for k in range(1, count + 1):
            here = labels == k
            expected.append((np.flatnonzero(here)[0], value, here.sum(), confidence[here].sum(dtype=int)))
    assert list(zip(polygons.value, polygons.pixels, polygons.confidence_sum, strict=True)) == [
        e[1:] for e in sorted(expected)
    ]


def test_a_checkerboard_is_all_single_pixels() -> None:
    board = (np.indices((6, 7)).sum(axis=0) % 2).astype(np.uint8)
    polygons = trace(board)
    assert len(polygons) == 42
    assert (shapely.get_num_coordinates(polygons.geometry) == 5).all()


def test_a_hole_that_touches_the_outside_in_a_corner_is_a_hole() -> None:
    classes = np.array([[1, 1, 1, 2], [1, 2, 1, 2], [1, 1, 2, 2]], np.uint8)  # the 2 inside meets the others diagonally
    ring = trace(classes).geometry[0]
    assert shapely.is_valid(ring)
    assert [shapely.Polygon(r).area for r in ring.interiors] == [1]
    assert ring.area == 7


def test_coordinates_are_those_of_the_plane() -> None:
    polygons = polygonise(np.ones((2, 3), np.uint8), np.ones((2, 3), np.uint8), NODATA, Window(-5, -9, -3, -6))
    assert polygons.geometry[0].equals(shapely.box(-9, -5, -6, -3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_one_class_is_one_rectangle(shape: tuple[int, int]) -> None:
    polygons = trace(np.full(shape, 3, np.uint8))
    assert shapely.normalize(polygons.geometry[0]) == shapely.normalize(shapely.box(0, 0, shape[1], shape[0]))
    assert polygons.pixels.tolist() == [shape[0] * shape[1]]


def test_only_nodata_gives_nothing() -> None:
    assert len(trace(np.full((4, 4), NODATA, np.uint8))) == 0


def test_a_spiral_is_one_long_ring() -> None:
    classes = np.zeros((101, 101), np.uint8)
    low, high = 0, 100
    while low <= high:  # a corridor one pixel wide, wound inwards
        classes[low, max(low - 2, 0) : high + 1] = 1
        classes[low : high + 1, high] = 1
        classes[high, low : high + 1] = 1
        classes[low + 2 : high + 1, low] = 1
        low, high = low + 2, high - 2
    assert as_sorted(trace(classes)) == by_gdal(classes)


def test_wrong_arrays_are_refused() -> None:
    good = np.zeros((2, 2), np.uint8)
    with pytest.raises(InputError, match="expected uint8"):
        polygonise(good.astype(np.int32), good, NODATA, Window(0, 0, 2, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected \(3, 2\)"):
        polygonise(good, good, NODATA, Window(0, 0, 3, 2))
