from __future__ import annotations

import numpy as np
import pytest

from geoml.data.augment import augment
from geoml.data.recipe import Augmentation
from geoml.data.scene import Sample
from geoml.data.target import d4
from geoml.data.targets.classes import ClassTarget
from geoml.nn.losses import IGNORE

PLAIN = ClassTarget(())
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
        out = augment(numbered(), PLAIN, Augmentation(), np.random.default_rng(seed), MEAN, STD)
        assert (out.target[out.valid] == out.image[0][out.valid]).all()
        assert (out.image[1] == out.image[0] * 2).all()
        assert (out.target[~out.valid] == IGNORE).all()
        seen.add(np.ascontiguousarray(out.target).tobytes())
    assert len(seen) == 8


def test_without_anything_nothing_changes():
    out = augment(numbered(), PLAIN, Augmentation(flips=False), np.random.default_rng(0), MEAN, STD)
    np.testing.assert_array_equal(out.image, numbered().image)


def test_brightness_is_in_std_and_leaves_nodata_alone():
    how = Augmentation(flips=False, brightness=0.5)
    out, before = augment(numbered(), PLAIN, how, np.random.default_rng(3), MEAN, STD), numbered()
    moved = (out.image - before.image)[:, before.valid]
    shift = moved[0, 0] / STD[0]
    assert 0 < abs(shift) <= 0.5
    np.testing.assert_allclose(moved[0], shift * STD[0], rtol=1e-4)
    np.testing.assert_allclose(moved[1], shift * STD[1], rtol=1e-4)
    assert (out.image[:, ~before.valid] == 0).all()
    np.testing.assert_array_equal(out.target, before.target)


def test_contrast_scales_around_the_mean():
    how = Augmentation(flips=False, contrast=0.3)
    out, before = augment(numbered(), PLAIN, how, np.random.default_rng(1), MEAN, STD), numbered()
    known = before.valid
    gain = (out.image[0][known] - MEAN[0]) / (before.image[0][known] - MEAN[0] + 1e-9)
    gain = gain[abs(before.image[0][known] - MEAN[0]) > 0.5]
    assert gain == pytest.approx(np.full(len(gain), gain[0]), rel=1e-4)
    assert 0.7 <= gain[0] <= 1.3


def test_band_jitter_differs_between_bands():
    out = augment(numbered(), PLAIN, Augmentation(flips=False, band_jitter=1), np.random.default_rng(1), MEAN, STD)
    moved = (out.image - numbered().image)[:, numbered().valid][:, 0] / STD
    assert moved[0] != pytest.approx(moved[1])


def test_a_seed_repeats():
    how = Augmentation(brightness=1, contrast=0.5)
    one, two = (augment(numbered(), PLAIN, how, np.random.default_rng(9), MEAN, STD) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)


def pair(size: int = 6) -> Sample:
    """Two dates of two bands: the second is the first + 100; class 1 in the left half, 2 in the right, 0 above."""
    first = numbered(size)
    image = np.where(first.valid, np.concatenate([first.image, first.image + 100]), 0).astype(np.float32)
    target = np.ones((size, size), np.uint8)
    target[:, size // 2 :] = 2
    target[0] = 0
    target[-1, -1] = IGNORE  # has data, and no label
    return Sample(image, first.valid, np.where(first.valid, target, IGNORE).astype(np.uint8))


FOUR = np.tile(MEAN, 2), np.tile(STD, 2)
TURNED = ClassTarget((), (0, 2, 1), compares=True)


def pairs(how: Augmentation, seeds: int = 20) -> list[Sample]:
    return [augment(pair(), TURNED, how, np.random.default_rng(s), *FOUR, 2) for s in range(seeds)]


def test_flips_move_both_dates_alike():
    for out in pairs(Augmentation()):
        known = out.valid
        np.testing.assert_array_equal(out.image[2:][:, known], out.image[:2][:, known] + 100)


def test_swap_turns_the_dates_and_their_classes():
    before = pair()
    (out,) = pairs(Augmentation(flips=False, swap=1), 1)
    np.testing.assert_array_equal(out.image[:2], before.image[2:])
    np.testing.assert_array_equal(out.image[2:], before.image[:2])
    for was, now in ((0, 0), (1, 2), (2, 1), (IGNORE, IGNORE)):
        assert (out.target[before.target == was] == now).all()


def test_swap_takes_its_share():
    before = pair()
    turned = sum(bool((s.image[:2] != before.image[:2]).any()) for s in pairs(Augmentation(flips=False, swap=0.3), 300))
    assert 60 < turned < 120


def test_same_shows_one_date_twice_and_nothing_changed():
    before, seen = pair(), set()
    for out in pairs(Augmentation(flips=False, same=1)):
        np.testing.assert_array_equal(out.image[:2], out.image[2:])
        assert (out.target == np.where(before.valid, 0, IGNORE)).all()
        seen.add(out.image[0][before.valid][0] == before.image[0][before.valid][0])
    assert seen == {True, False}  # either date


def test_every_date_has_its_own_brightness():
    before = pair()
    for how in (Augmentation(flips=False, brightness=1), Augmentation(flips=False, same=1, brightness=1)):
        out = pairs(how, 1)[0]
        one, two = ((out.image[d] - before.image[d])[before.valid][0] / STD[0] for d in (0, 2))
        assert one != pytest.approx(two)
        assert (out.image[:, ~before.valid] == 0).all()


def test_one_date_is_augmented_as_before_there_were_more():
    """Values as drawn before pairs: recipes keep their weights."""
    how = Augmentation(brightness=0.3, contrast=0.2, band_jitter=0.1)
    out = augment(numbered(), PLAIN, how, np.random.default_rng(7), MEAN, STD)
    rng = np.random.default_rng(7)
    k, gain = int(rng.integers(8)), 1 + rng.uniform(-0.2, 0.2)
    shift, bands = rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1, 2)
    image, valid = d4(numbered().image, k), d4(numbered().valid, k)
    centre = MEAN[:, None, None]
    expected = centre + (image - centre) * gain + ((shift + bands) * STD)[:, None, None]
    np.testing.assert_allclose(out.image, np.where(valid, expected, 0), rtol=1e-5)
