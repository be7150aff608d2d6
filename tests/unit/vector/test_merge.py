"""Merging any cut gives what polygonising the whole gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import rasterio.features
import shapely
import shapely.geometry
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.plane import Block, Plane, Window, blocks_touching
from geoml.vector.merge import _Seams, merged, shared, split
from geoml.vector.polygonise import polygonise
from geoml.vector.polygons import Features, Polygons
from geoml.vector.rings import share_vertices

NODATA = 255
PLANE = Plane("EPSG:32621", 10.0)
Row = tuple[int, int, int, str]


def cut(classes: NDArray[np.uint8], confidence: NDArray[np.uint8], window: Window, size: int) -> list[Features]:
    """Features by way of blocks of ``size``."""
    whole_, edges = [], []
    for block in blocks_touching(PLANE, size, window):
        part = block.window.intersect(window)
        values, sure = np.full(block.window.shape, NODATA, np.uint8), np.zeros(block.window.shape, np.uint8)
        values[part.slices(block.window)] = classes[part.slices(window)]
        sure[part.slices(block.window)] = confidence[part.slices(window)]
        inner, edge = split(block, shared(block, polygonise(values, sure, NODATA, block.window)))
        whole_.append(inner)
        edges.append((block, edge))
    return [*whole_, *merged(edges)]


def rows(batches: list[Features]) -> list[Row]:
    return sorted(
        (int(v), int(n), int(c), shapely.normalize(g).wkt)
        for b in batches
        for v, n, c, g in zip(b.value, b.pixels, b.confidence_sum, b.geometry, strict=True)
    )


def whole(classes: NDArray[np.uint8], confidence: NDArray[np.uint8], window: Window) -> list[Row]:
    p = polygonise(classes, confidence, NODATA, window)
    columns = zip(p.value, p.pixels, p.confidence_sum, share_vertices(p.rings).polygons(), strict=True)
    return sorted((int(v), int(n), int(c), shapely.normalize(g).wkt) for v, n, c, g in columns)


def shapes(classes: NDArray[np.uint8], window: Window) -> list[tuple[int, shapely.Geometry]]:
    """What GDAL finds in the whole."""
    moved = Affine.translation(window.x0, window.y0)
    found = rasterio.features.shapes(classes, mask=classes != NODATA, connectivity=4, transform=moved)
    return [(int(value), shapely.normalize(shapely.geometry.shape(g))) for g, value in found]


MAPS = arrays(np.uint8, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.sampled_from([0, 1, 2, NODATA]))
PLACE = st.integers(-20, 20)


@settings(max_examples=40, deadline=None)
@given(classes=MAPS, size=st.integers(1, 9), y=PLACE, x=PLACE, seed=st.integers(0, 1000))
def test_any_cut_gives_the_whole(classes: NDArray[np.uint8], size: int, y: int, x: int, seed: int) -> None:
    """To the vertex: those of neighbours on a border are the same for any cut, too."""
    confidence = np.random.default_rng(seed).integers(0, 251, classes.shape).astype(np.uint8)
    window = Window(y, x, y + classes.shape[0], x + classes.shape[1])
    assert rows(cut(classes, confidence, window, size)) == whole(classes, confidence, window)


@settings(max_examples=20, deadline=None)
@given(classes=MAPS, size=st.integers(1, 9), y=PLACE, x=PLACE)
def test_any_cut_gives_what_gdal_finds(classes: NDArray[np.uint8], size: int, y: int, x: int) -> None:
    window = Window(y, x, y + classes.shape[0], x + classes.shape[1])
    found = [(int(v), g) for b in cut(classes, classes, window, size) for v, g in zip(b.value, b.geometry, strict=True)]
    assert all(g.is_valid for _, g in found)
    expected = shapes(classes, window)
    assert len(found) == len(expected)
    tree = shapely.STRtree([g.representative_point() for _, g in expected])
    for value, polygon in found:
        (k,) = tree.query(polygon, predicate="contains")
        assert value == expected[k][0]
        assert shapely.equals(polygon, expected[k][1])


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
    (batch,) = [b for b in cut(classes, classes, Window(0, 0, 4, 8), 4) if len(b)]
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


def ones(block: Block) -> tuple[Block, Polygons]:
    full = np.ones(block.window.shape, np.uint8)
    return block, split(block, shared(block, polygonise(full, full, NODATA, block.window)))[1]


def test_planes_stay_apart() -> None:
    parts = [ones(Block(Plane(crs, 10.0), 2, 0, 0)) for crs in ("EPSG:32621", "EPSG:32622")]
    assert [len(b) for b in merged(parts)] == [1, 1]


def test_nothing_gives_nothing() -> None:
    block, empty = Block(PLANE, 2, 0, 0), np.full((2, 2), NODATA, np.uint8)
    inner, edge = split(block, shared(block, polygonise(empty, empty, NODATA, block.window)))
    assert (len(inner), list(merged([(block, edge)])), list(merged([]))) == (0, [], [])


def test_blocks_that_are_missing_end_what_touches_them() -> None:
    blocks = [Block(PLANE, 2, iy, 0) for iy in (0, 1, 3, 5)]
    assert [b.pixels.tolist() for b in merged([ones(b) for b in blocks])] == [[8], [4], [4]]


def test_wrong_blocks_are_refused() -> None:
    one, below = ones(Block(PLANE, 2, 0, 0)), ones(Block(PLANE, 2, 1, 0))
    other = ones(Block(Plane("EPSG:32622", 10.0), 2, 0, 0))
    for parts, why in (
        ([one, one], "came before"),
        ([below, one], "row by row"),
        ([one, other, below], "plane by plane"),
        ([one, ones(Block(PLANE, 4, 1, 0))], "blocks of 2 pixels"),
    ):
        with pytest.raises(InputError, match=why):
            list(merged(parts))
    full = np.ones((2, 2), np.uint8)
    with pytest.raises(InputError, match="not inside block"):
        shared(Block(PLANE, 2, 0, 1), polygonise(full, full, NODATA, Window(0, 0, 2, 2)))


def test_only_what_goes_on_below_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripes down the map and squares between them: with more rows of blocks no more squares are held."""
    held: list[int] = []
    add = _Seams.add

    def counted(self: _Seams, iy: int, row: list[tuple[Block, Polygons]]) -> Iterator[Features]:
        yield from add(self, iy, row)
        held.append(self.count)

    monkeypatch.setattr(_Seams, "add", counted)
    classes = np.zeros((400, 40), np.uint8)
    classes[::4, ::2] = 1
    found = cut(classes, classes, Window(0, 0, 400, 40), 10)
    assert sum(len(b) for b in found) == 2001
    assert len(held) == 40
    squares = [n - 4 * (k + 1) for k, n in enumerate(held)]  # the ground goes on through all blocks
    assert max(squares) <= 20
