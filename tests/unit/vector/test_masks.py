"""Masks in boxes: packed and unpacked, and their outlines against shapely, rasterio and torchvision."""

from __future__ import annotations

import numpy as np
import rasterio.features
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from torchvision.models.detection.roi_heads import paste_masks_in_image

from geoml.vector.boxes import COLUMNS
from geoml.vector.masks import MASK, SIDE, WORDS, columns_of, outlines, packed, shapes, unpacked

CELLS = arrays(np.bool_, (2, SIDE, SIDE), elements=st.booleans(), fill=st.just(False))
BOX = np.array([[100.0, 200.0, 128.0, 256.0]])
"""Top, left, bottom, right: cells of 1 x 2 pixels."""


def drawn(*windows: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(1, 28, 28) with windows of cells."""
    cells = np.zeros((1, SIDE, SIDE), np.bool_)
    for top, left, bottom, right in windows:
        cells[0, top:bottom, left:right] = True
    return cells


def traced(cells: NDArray[np.bool_]) -> shapely.Polygon:
    """The outline in `BOX`."""
    (outline,) = outlines(packed(cells), BOX)
    return outline


@given(CELLS)
def test_a_mask_comes_back_from_its_numbers(cells: NDArray[np.bool_]) -> None:
    words = packed(cells)
    assert words.shape == (2, WORDS)
    assert words.dtype == np.uint16
    assert (unpacked(words) == cells).all()
    assert (unpacked(words.astype(np.float32)) == cells).all(), "single precision holds them, as raw output does"


def test_an_angle_has_the_corners_that_its_cells_have() -> None:
    outline = traced(drawn((0, 0, 28, 10), (20, 0, 28, 28)))
    expected = shapely.Polygon([(200, 100), (220, 100), (220, 120), (256, 120), (256, 128), (200, 128)])
    assert outline.equals(expected)
    assert len(outline.exterior.coords) == 7


def test_a_court_stays_a_hole_and_of_several_parts_the_largest_is_kept() -> None:
    ring = drawn((2, 2, 20, 20))
    ring[0, 8:12, 8:12] = False
    ring[0, 24:27, 1:27] = True
    outline = traced(ring)
    assert len(outline.interiors) == 1
    assert outline.area == 2 * (18 * 18 - 16)
    same = traced(drawn((4, 4, 8, 8), (12, 12, 16, 16)))
    assert same.bounds == (208, 104, 216, 108), "of equal parts the first"


def test_an_empty_mask_leaves_the_box() -> None:
    cells = np.concatenate([drawn((3, 3, 9, 9)), drawn(), drawn((0, 0, 1, 1))])
    found = outlines(packed(cells), np.tile(BOX, (3, 1)))
    assert found[1].equals(shapely.box(200, 100, 256, 128))
    assert found[0].area == 72
    assert found[2].area == 2
    assert outlines(packed(cells[:0]), BOX[:0]).shape == (0,)


@given(CELLS, st.integers(0, 2**31))
def test_an_outline_is_the_union_of_the_cells_of_its_largest_part(cells: NDArray[np.bool_], seed: int) -> None:
    """The oracles are scipy's labels, and rasterio for which pixels lie inside; any box, also far from the origin."""
    random = np.random.default_rng(seed)
    corner = random.integers(-(10**6), 10**6, (2, 2))
    boxes = np.column_stack([corner, corner + SIDE * random.integers(1, 4, (2, 2))]).astype(float)
    for outline, mask, (top, left, bottom, right) in zip(outlines(packed(cells), boxes), cells, boxes, strict=True):
        assert outline.geom_type == "Polygon"
        assert shapely.is_valid(outline)
        part, count = ndimage.label(mask)
        sizes = np.bincount(part.ravel(), minlength=2)[1:]
        largest = part == 1 + int(sizes.argmax()) if count else np.ones_like(mask)
        tall, wide = int(bottom - top) // SIDE, int(right - left) // SIDE
        grown = largest.repeat(tall, 0).repeat(wide, 1)
        here = shapely.transform(outline, lambda xy, left=left, top=top: xy - [left, top])
        inside = rasterio.features.rasterize([here], out_shape=grown.shape).astype(bool)
        assert (inside == grown).all()
        assert outline.area == np.float64(largest.sum() * tall * wide)


def test_torchvision_pastes_the_same_mask_within_a_pixel_and_a_half() -> None:
    """It smooths corners and takes the last pixel of a box for its edge."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    cells = (np.hypot(y - 14, x - 14) < 13)[None] | drawn((0, 0, 28, 8))
    shape = np.array([[10.0, 20.0, 66.0, 104.0]])
    (outline,) = outlines(packed(cells), shape)
    box = torch.tensor([[20.0, 10, 103, 65]])
    pasted = paste_masks_in_image(torch.from_numpy(cells[None].astype(np.float32)), box, (80, 120))[0, 0].numpy() >= 0.5
    mine = rasterio.features.rasterize([outline], out_shape=pasted.shape).astype(bool)
    row, col = np.nonzero(mine != pasted)
    away = shapely.distance(outline.exterior, shapely.points(col + 0.5, row + 0.5))
    assert away.max(initial=0) < 1.5
    assert (mine & pasted).sum() / (mine | pasted).sum() > 0.9


def test_rows_of_candidates_become_columns_with_and_without_a_mask() -> None:
    row = np.arange(len(COLUMNS), dtype=float)[None]
    assert set(columns_of(row)) == set(COLUMNS)
    assert set(columns_of(np.column_stack([row, [[0.5]]]))) == {*COLUMNS, "angle"}
    words = packed(drawn((0, 0, 28, 14)))
    given = columns_of(np.column_stack([row, words]))
    assert given[MASK].shape == (1, WORDS)
    boxes = {**given, "y": np.array([10.0]), "x": np.array([20.0])}
    boxes |= {k: np.array([4.0]) for k in ("north", "south", "west", "east")}
    assert shapes(boxes)[0].equals(shapely.box(16, 6, 20, 14))
