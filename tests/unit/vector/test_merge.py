"""Merging any cut gives what polygonising the whole gives."""

from __future__ import annotations

import random

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window, blocks_touching
from geoml.io.cog.polygonise import polygonise
from geoml.vector.merge import FeatureMerger
from geoml.vector.polygons import Features

NODATA = 255
PLANE = Plane("EPSG:32621", 10.0)
Row = tuple[int, int, float, str]


def cut(
    classes: NDArray[np.uint8], confidence: NDArray[np.uint8], window: Window, size: int, seed: int = 0
) -> list[Features]:
    """Features by way of blocks of ``size`` in any order."""
    merger = FeatureMerger()
    blocks = blocks_touching(PLANE, size, window)
    random.Random(seed).shuffle(blocks)
    for block in blocks:
        part = block.window.intersect(window)
        values, sure = np.full(block.window.shape, NODATA, np.uint8), np.zeros(block.window.shape, np.uint8)
        values[part.slices(block.window)] = classes[part.slices(window)]
        sure[part.slices(block.window)] = confidence[part.slices(window)]
        merger.add(block, polygonise(values, sure, NODATA, block.window))
    return list(merger.merged())


def rows(batches: list[Features]) -> list[Row]:
    return sorted(
        (int(v), int(n), float(c), shapely.normalize(g).wkt)
        for b in batches
        for v, n, c, g in zip(b.value, b.pixels, b.confidence, b.geometry, strict=True)
    )


def whole(classes: NDArray[np.uint8], confidence: NDArray[np.uint8], window: Window) -> list[Row]:
    p = polygonise(classes, confidence, NODATA, window)
    columns = zip(p.value, p.pixels, p.confidence_sum / p.pixels, p.geometry, strict=True)
    return sorted((int(v), int(n), float(c), shapely.normalize(g).wkt) for v, n, c, g in columns)


@settings(max_examples=100, deadline=None)
@given(
    classes=arrays(
        np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 1, NODATA])
    ),
    size=st.integers(1, 9),
    y=st.integers(-20, 20),
    x=st.integers(-20, 20),
    seed=st.integers(0, 1000),
)
def test_any_cut_gives_the_whole(classes: NDArray[np.uint8], size: int, y: int, x: int, seed: int) -> None:
    confidence = np.random.default_rng(seed).integers(0, 251, classes.shape).astype(np.uint8)
    window = Window(y, x, y + classes.shape[0], x + classes.shape[1])
    assert rows(cut(classes, confidence, window, size, seed)) == whole(classes, confidence, window)


@pytest.mark.parametrize("size", [7, 16, 64])
def test_ids_do_not_depend_on_the_blocks(size: int) -> None:
    classes = np.random.default_rng(5).integers(0, 3, (40, 40)).astype(np.uint8)
    window = Window(-10, -10, 30, 30)
    ids = sorted(i for b in cut(classes, classes, window, size) for i in b.ids())
    assert ids == sorted(i for b in cut(classes, classes, window, 1000) for i in b.ids())
    assert len(set(ids)) == len(ids)


def test_a_feature_names_its_blocks_and_its_top_left_pixel() -> None:
    classes = np.full((4, 8), NODATA, np.uint8)
    classes[2, 2:7], classes[1, 6] = 3, 3
    (batch,) = cut(classes, classes, Window(0, 0, 4, 8), 4)
    assert batch.blocks.tolist() == [("32621-10_4_y0_x0", "32621-10_4_y0_x1")]
    assert batch.ids() == ["32621-10_c3_y1_x6"]
    assert batch.pixels.tolist() == [6]


def test_touching_in_a_corner_is_not_touching() -> None:
    classes = np.array([[1, 2], [2, 1]], np.uint8)
    assert sum(len(b) for b in cut(classes, classes, Window(0, 0, 2, 2), 1)) == 4


def test_a_ring_around_a_block_keeps_its_hole() -> None:
    classes = np.ones((12, 12), np.uint8)
    classes[4:8, 4:8] = 2
    found = rows(cut(classes, classes, Window(0, 0, 12, 12), 4))
    assert [(r[0], r[1]) for r in found] == [(1, 128), (2, 16)]
    assert found[0][3].count("(") == 3  # a polygon with an outer ring and a hole


def test_planes_stay_apart() -> None:
    merger = FeatureMerger()
    ones = np.ones((2, 2), np.uint8)
    for crs in ("EPSG:32621", "EPSG:32622"):
        block = Block(Plane(crs, 10.0), 2, 0, 0)
        merger.add(block, polygonise(ones, ones, NODATA, block.window))
    assert [len(b) for b in merger.merged()] == [1, 1]


def test_nothing_added_gives_nothing() -> None:
    merger = FeatureMerger()
    empty = np.full((2, 2), NODATA, np.uint8)
    merger.add(Block(PLANE, 2, 0, 0), polygonise(empty, empty, NODATA, Window(0, 0, 2, 2)))
    assert list(merger.merged()) == []


def test_wrong_blocks_are_refused() -> None:
    merger = FeatureMerger()
    ones = np.ones((2, 2), np.uint8)
    found = polygonise(ones, ones, NODATA, Window(0, 0, 2, 2))
    merger.add(Block(PLANE, 2, 0, 0), found)
    with pytest.raises(InputError, match="added before"):
        merger.add(Block(PLANE, 2, 0, 0), found)
    with pytest.raises(InputError, match="blocks of 2 pixels"):
        merger.add(Block(PLANE, 4, 0, 0), found)
    with pytest.raises(InputError, match="not inside block"):
        merger.add(Block(PLANE, 2, 0, 1), found)
