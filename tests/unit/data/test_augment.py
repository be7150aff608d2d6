from __future__ import annotations

import numpy as np
import pytest

from geoml.data.augment import augment, d4
from geoml.data.recipe import Augmentation
from geoml.data.scene import Sample
from geoml.nn.losses import IGNORE

MEAN, STD = np.array([10.0, 20.0], np.float32), np.array([2.0, 5.0], np.float32)


def numbered(size: int = 6) -> Sample:
    """Every pixel carries its own number in both bands and in the target, so that any mismatch shows."""
    number = np.arange(size * size, dtype=np.float32).reshape(size, size)
    valid = number % 5 != 0
    image = np.where(valid, np.stack([number, number * 2]), 0)
    return Sample(image, valid, np.where(valid, number, IGNORE).astype(np.uint8))


def test_the_eight_variants_differ_and_come_back():
    array = numbered().image[0]
    variants = [d4(array, k) for k in range(8)]
    assert len({v.tobytes() for v in map(np.ascontiguousarray, variants)}) == 8
    assert all(sorted(v.ravel()) == sorted(array.ravel()) for v in variants)


def test_image_valid_and_target_move_together():
    seen = set()
    for seed in range(40):
        out = augment(numbered(), Augmentation(), np.random.default_rng(seed), MEAN, STD)
        assert (out.target[out.valid] == out.image[0][out.valid]).all()
        assert (out.image[1] == out.image[0] * 2).all()
        assert (out.target[~out.valid] == IGNORE).all()
        seen.add(np.ascontiguousarray(out.target).tobytes())
    assert len(seen) == 8


def test_without_anything_nothing_changes():
    out = augment(numbered(), Augmentation(flips=False), np.random.default_rng(0), MEAN, STD)
    np.testing.assert_array_equal(out.image, numbered().image)


def test_brightness_is_in_std_and_leaves_nodata_alone():
    how = Augmentation(flips=False, brightness=0.5)
    out, before = augment(numbered(), how, np.random.default_rng(3), MEAN, STD), numbered()
    moved = (out.image - before.image)[:, before.valid]
    shift = moved[0, 0] / STD[0]
    assert 0 < abs(shift) <= 0.5
    np.testing.assert_allclose(moved[0], shift * STD[0], rtol=1e-4)
    np.testing.assert_allclose(moved[1], shift * STD[1], rtol=1e-4)
    assert (out.image[:, ~before.valid] == 0).all()
    np.testing.assert_array_equal(out.target, before.target)


def test_contrast_scales_around_the_mean():
    how = Augmentation(flips=False, contrast=0.3)
    out, before = augment(numbered(), how, np.random.default_rng(1), MEAN, STD), numbered()
    known = before.valid
    gain = (out.image[0][known] - MEAN[0]) / (before.image[0][known] - MEAN[0] + 1e-9)
    gain = gain[abs(before.image[0][known] - MEAN[0]) > 0.5]
    assert gain == pytest.approx(np.full(len(gain), gain[0]), rel=1e-4)
    assert 0.7 <= gain[0] <= 1.3


def test_band_jitter_differs_between_bands():
    out = augment(numbered(), Augmentation(flips=False, band_jitter=1), np.random.default_rng(1), MEAN, STD)
    moved = (out.image - numbered().image)[:, numbered().valid][:, 0] / STD
    assert moved[0] != pytest.approx(moved[1])


def test_a_seed_repeats():
    how = Augmentation(brightness=1, contrast=0.5)
    one, two = (augment(numbered(), how, np.random.default_rng(9), MEAN, STD) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
