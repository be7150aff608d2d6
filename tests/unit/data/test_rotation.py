"""Chips turned by any angle: pixels, labels and boxes stay on the same ground. Oracles: shapely and rasterio."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize

from geoml.data.augment import drawn, rotate
from geoml.data.chips import TrainBatches
from geoml.data.recipe import Augmentation, Sampling
from geoml.data.rotation import Rotation
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.target import d4
from geoml.data.targets.boxes import BoxTarget, boxes_of
from geoml.data.targets.classes import ClassTarget
from geoml.data.targets.quantity import QuantityTarget
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import INDEX, render
from geoml.vector.boxes import outlines

SIZE = 64
CLASSES = tuple(ClassInfo(value=v, name=n, color="#102030") for v, n in ((7, "roof"), (3, "field")))
PLAIN = ClassTarget(CLASSES)
ANGLES = (-170, -90, -33, 7, 45, 60, 118)
RECTANGLES = np.array([[0, -10, -26, 4, 6], [1, 8, 5, 14, 29], [0, -22, 2, -14, 14]], float)
"""Index, top, left, bottom, right from the middle of a chip."""


def rotation(degrees: float, scale: float = 1.0) -> Rotation:
    return Rotation(SIZE, math.radians(degrees), scale)


def larger(how: Rotation) -> int:
    return SIZE + 2 * how.margin


def boxes_in(how: Rotation) -> NDArray[np.float64]:
    """The rectangles on the larger chip."""
    return RECTANGLES + np.array([0, 1, 1, 1, 1]) * larger(how) / 2


def by_shapely(how: Rotation, shapes: NDArray[np.object_]) -> list[shapely.Geometry]:
    """Geometries of the larger chip, turned and scaled about its middle, on the chip."""
    middle, off = larger(how) / 2, SIZE / 2
    moved = []
    for shape in shapes:
        shape = shapely.affinity.rotate(shape, how.angle, origin=(middle, middle), use_radians=True)
        shape = shapely.affinity.scale(shape, how.scale, how.scale, origin=(middle, middle))
        moved.append(shapely.affinity.translate(shape, off - middle, off - middle))
    return moved


def grounds(how: Rotation, *, missing: bool = False) -> Sample:
    """A larger chip whose two bands are x and y of each pixel's centre, with 1000 added so that none is 0."""
    n = larger(how)
    y, x = np.mgrid[:n, :n] + 0.5
    valid = np.ones((n, n), np.bool_)
    if missing:
        valid[n // 2 - 6 : n // 2 + 3, n // 2 : n // 2 + 9] = False
    return Sample.of(np.stack([x, y]).astype(np.float32) + 1000, valid, np.zeros((n, n), np.uint8), PLAIN)


@given(st.floats(-180, 180), st.floats(0.5, 2))
@settings(max_examples=60, deadline=None)
def test_every_pixel_shows_the_ground_that_comes_to_lie_there(degrees: float, scale: float) -> None:
    """Interpolated x and y of a linear image are exact, so half a pixel would show."""
    how = rotation(degrees, scale)
    out = rotate(grounds(how), PLAIN, how)
    assert out.valid.all(), "the larger chip has all corners"
    ground = out.image.reshape(2, -1).T.astype(np.float64) - 1000
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    np.testing.assert_allclose(how.points(ground), np.column_stack([x.ravel(), y.ravel()]), atol=2e-3)


@given(st.floats(-180, 180), st.floats(0.5, 2), st.floats(0, 90), st.floats(0, 90))
@settings(max_examples=60, deadline=None)
def test_points_turn_as_shapely_turns_them(degrees: float, scale: float, x: float, y: float) -> None:
    how = rotation(degrees, scale)
    (expected,) = by_shapely(how, np.array([shapely.Point(x, y)]))
    np.testing.assert_allclose(how.points(np.array([[x, y]]))[0], [expected.x, expected.y], atol=1e-9)


def test_no_angle_is_the_chip_itself_and_quarter_turns_are_exact() -> None:
    rng = np.random.default_rng(0)
    for degrees, k in ((0, 0), (90, 3), (180, 2), (-90, 1)):
        how = rotation(degrees)
        n, m = larger(how), how.margin
        image, valid = rng.integers(1, 255, (3, n, n)).astype(np.uint8), rng.random((n, n)) < 0.9
        target = rng.integers(0, 2, (n, n)).astype(np.uint8)
        sample = Sample.of(image, valid, target, PLAIN)
        out = rotate(sample, PLAIN, how)
        inner = slice(m, n - m)
        np.testing.assert_array_equal(out.valid, d4(valid[inner, inner], k))
        np.testing.assert_array_equal(out.image, d4(sample.image[:, inner, inner], k))
        np.testing.assert_array_equal(out.target, d4(sample.target[inner, inner], k))
        assert out.target.dtype == np.uint8


@pytest.mark.parametrize("scale", [0.8, 1, 1.3])
@pytest.mark.parametrize("degrees", ANGLES)
def test_classes_are_those_of_the_turned_outlines(degrees: float, scale: float) -> None:
    how = rotation(degrees, scale)
    shapes, n = outlines(boxes_in(how)[:, 1:]), larger(how)
    before = rasterize(zip(shapes, (0, 1, 0), strict=True), (n, n), fill=IGNORE, dtype=np.uint8)
    after = how.nearest(before)
    moved = by_shapely(how, shapes)
    expected = rasterize(zip(moved, (0, 1, 0), strict=True), (SIZE, SIZE), fill=IGNORE, dtype=np.uint8)
    centres = shapely.points(np.mgrid[:SIZE, :SIZE][::-1].reshape(2, -1).T + 0.5)
    near = shapely.distance(shapely.union_all([s.exterior for s in moved]), centres) <= scale * 2**0.5 / 2
    assert near.mean() < 0.25
    np.testing.assert_array_equal(after.ravel()[~near], expected.ravel()[~near])


@pytest.mark.parametrize("rounded", [0, 0.6, 0.999])
@pytest.mark.parametrize("scale", [0.8, 1, 1.3])
@pytest.mark.parametrize("degrees", ANGLES)
def test_upright_boxes_hold_the_turned_outline_that_filled_them(degrees: float, scale: float, rounded: float) -> None:
    how, kind = rotation(degrees, scale), BoxTarget(CLASSES, rounded=rounded)
    boxes = boxes_in(how)
    shapes = outlines(boxes[:, 1:])
    radius = rounded * (boxes[:, 3:] - boxes[:, 1:3]).min(1) / 2
    shapes = shapely.buffer(shapely.buffer(shapes, -radius, join_style="mitre"), radius, quad_segs=200)
    expected = shapely.bounds(by_shapely(how, shapes))[:, [1, 0, 3, 2]]
    found = boxes_of(kind.rotated(render(boxes, (larger(how),) * 2), how))
    assert len(found) == len(boxes)
    order = [int(np.abs(found[:, 2:] - e).sum(1).argmin()) for e in expected]
    np.testing.assert_allclose(found[order, 2:], expected, atol=5e-3)
    np.testing.assert_array_equal(found[order, 0], boxes[:, 0])


@pytest.mark.parametrize("degrees", ANGLES)
def test_oriented_boxes_turn_as_they_are(degrees: float) -> None:
    how, kind = rotation(degrees, 0.9), BoxTarget(CLASSES, oriented=True)
    boxes = np.column_stack([boxes_in(how), [0.3, -1.1, 0.0]])
    found = boxes_of(kind.rotated(render(boxes, (larger(how),) * 2), how))
    assert len(found) == len(boxes)
    for expected in by_shapely(how, outlines(boxes[:, 1:])):
        shares = [e.intersection(expected).area / e.union(expected).area for e in outlines(found[:, 2:])]
        assert max(shares) > 0.999


def test_boxes_and_pixels_of_a_turned_picture_agree() -> None:
    """A picture of white rectangles: the box of each is that of its white pixels, to what interpolation blurs."""
    for degrees in ANGLES:
        how = rotation(degrees)
        n = larger(how)
        for box in boxes_in(how):
            top, left, bottom, right = box[1:].astype(int)
            image = np.zeros((1, n, n), np.float32)
            image[0, top:bottom, left:right] = 1
            target = render(np.array([[0, top, left, bottom, right]], float), (n, n))
            out = rotate(Sample(image, np.ones((n, n), np.bool_), target), BoxTarget(CLASSES), how)
            ((_, _, *found),) = boxes_of(out.target).tolist()
            y, x = np.nonzero(out.image[0] > 0.02)
            seen = [y.min(), x.min(), y.max() + 1, x.max() + 1]
            np.testing.assert_allclose(seen, found, atol=1.01)
            weight = out.image[0] / out.image[0].sum()
            row, col = np.mgrid[:SIZE, :SIZE] + 0.5
            middle = [(weight * row).sum(), (weight * col).sum()]
            np.testing.assert_allclose(middle, [(found[0] + found[2]) / 2, (found[1] + found[3]) / 2], atol=0.1)


def test_pixels_that_missing_ones_would_colour_are_missing() -> None:
    how = rotation(30)
    sample = grounds(how, missing=True)
    out = rotate(sample, PLAIN, how)
    assert 9 * 9 < (~out.valid).sum() < 13 * 13
    assert (out.image[:, ~out.valid] == 0).all()
    assert (out.image[:, out.valid] > 999).all(), "no zero of a missing pixel was mixed in"
    assert (out.target[~out.valid] == IGNORE).all()
    assert (out.target[out.valid] == 0).all()


def test_quantities_are_not_mixed_and_unknown_ones_stay_unknown() -> None:
    how = rotation(20)
    values = np.where(np.random.default_rng(1).random((larger(how),) * 2) < 0.2, np.nan, 7).astype(np.float32)
    values[:, ::2] *= 3
    found = QuantityTarget(1.0).rotated(values, how)
    assert set(found[np.isfinite(found)].tolist()) == {7, 21}
    assert 0.15 < np.isnan(found).mean() < 0.25


def test_unknown_ground_and_boxes_that_are_mostly_outside_are_unknown() -> None:
    how, kind = rotation(45), BoxTarget(CLASSES)
    n = larger(how)
    middle = n / 2
    corner = SIZE / 2  # turned by 45 degrees it lies at the right-hand edge, beyond it by 0.4 of itself
    boxes = np.array([[0, -4, -4, 4, 4], [1, *(corner - np.array([16, 16, 2, 2]))], [0, -19, 9, -11, 17]], float)
    boxes[:, 1:] += middle
    target = render(boxes, (n, n))
    target[INDEX][:, : n // 2 - 9] = IGNORE
    found = boxes_of(kind.rotated(target, how))
    known = found[found[:, 1] == 0]
    assert sorted(known[:, 0].tolist()) == [0, 0]
    out = kind.rotated(target, how)
    ground = rotate(grounds(how), PLAIN, how).image[0] - 1000
    np.testing.assert_array_equal(out[INDEX][ground < n // 2 - 10], IGNORE)
    free = (ground > n // 2 - 8) & (out[0] == 0)
    assert (out[INDEX][free] == 0).all()


def test_angles_and_scales_are_drawn_within_their_limits() -> None:
    every = [drawn(Augmentation(rotate=30, scale=0.5), np.random.default_rng(s), SIZE) for s in range(400)]
    angles = np.array([math.degrees(r.angle) for r in every if r])
    scales = np.array([r.scale for r in every if r])
    assert -30 <= angles.min() < -25
    assert 25 < angles.max() <= 30
    assert 1 / 1.5 <= scales.min() < 0.7
    assert 1.45 < scales.max() <= 1.5
    assert abs(np.log(scales).mean()) < 0.05
    rng = np.random.default_rng(0)
    assert drawn(Augmentation(), rng, SIZE) is None
    assert rng.random() == np.random.default_rng(0).random(), "nothing is drawn where nothing is turned"


def test_training_crops_are_turned_and_repeat(recipe) -> None:
    """Sample i of epoch e is the same in any run, and shows nothing of what lies outside of its piece."""
    rng = np.random.default_rng(3)
    image = rng.integers(1, 200, (1, 80, 90)).astype(np.uint8)
    image[:, :, 60:] = 255
    made = Sample.of(image, np.ones((80, 90), np.bool_), rng.integers(0, 2, (80, 90)).astype(np.uint8), PLAIN)
    scene = LabelledScene("a", (80, 90), lambda: made)
    piece = Piece(scene, scene.window.intersect(scene.window.__class__(0, 0, 80, 60)), "train")
    options = {"chip_size": 16, "batch": 4, "sampling": Sampling(samples=24), "seed": 5}
    how = Augmentation(rotate=180, scale=0.3)

    def batches() -> TrainBatches:
        zero, one = np.zeros(1, np.float32), np.ones(1, np.float32)
        return TrainBatches([piece], recipe(**options, augmentation=how), mean=zero, std=one)

    one, two = list(batches().of(1)), list(batches().of(1))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.target, b.target)
    second = [b.image for b in batches().of(1, lambda n: slice(n // 2, n))]
    np.testing.assert_array_equal(second[0], one[0].image[2:])
    whole = np.concatenate([b.image for b in one])
    assert whole.max() < 200, "the pixels of 255 lie beyond the piece"
    assert 0.9 < np.concatenate([b.valid for b in one]).mean() < 1
    assert (whole % 1 > 0.01).mean() > 0.5, "values between those of the image: it was turned"
