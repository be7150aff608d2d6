"""Pixels that travel as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from geoml import testing
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Plane, Window


def pixels() -> Pixels:
    data = np.arange(2 * 4 * 5, dtype=np.uint16).reshape(2, 4, 5)
    count = np.ones((4, 5), np.uint16)
    count[1, 2] = 0
    return Pixels(data, count, (0.5, 2.0), (1.0, -1.0), Window(10, 20, 14, 25))


def test_a_part_of_pixels_is_what_lies_there() -> None:
    whole = pixels()
    part = whole.crop(Window(11, 22, 13, 24))
    assert part.data.tolist() == whole.data[:, 1:3, 2:4].tolist()
    assert part.valid.tolist() == [[False, True], [True, True]]
    assert part.crop(part.origin).data.base is whole.data.base  # nothing is copied
    assert part.crop(Window(12, 23, 13, 24)).data.tolist() == whole.data[:, 2:3, 3:4].tolist()


def test_what_the_model_sees_is_what_the_numbers_mean() -> None:
    whole = pixels()
    physical = whole.data * np.array([0.5, 2.0])[:, None, None] + np.array([1.0, -1.0])[:, None, None]
    np.testing.assert_allclose(whole.physical(), physical)
    card = testing.card("made", ["red", "nir"], ["a"])
    bands = tuple(b.model_copy(update={"mean": 3.0, "std": 4.0}) for b in card.bands)
    mul, add = whole.coefficients(card.model_copy(update={"bands": bands}))
    np.testing.assert_allclose(whole.data * mul[:, None, None] + add[:, None, None], (physical - 3) / 4, rtol=1e-6)
    with pytest.raises(InputError, match="expected 1"):
        whole.coefficients(testing.card("made", ["red"], ["a"]))


def test_nothing_is_known_outside_of_a_mask() -> None:
    mask = np.zeros((4, 5), bool)
    mask[:2] = True
    masked = pixels().only(mask)
    assert masked.valid.sum() == 9
    assert masked.count.dtype == np.uint16
    assert pixels().valid.sum() == 19


def test_looks_go_where_the_pixels_go() -> None:
    looks = np.zeros((3, 4, 5), bool)
    looks[1], looks[2, 2, 3] = True, True
    whole = replace(pixels(), looks=looks, months=(0, 4, 9), plane=Plane("EPSG:32621", 10.0))
    part = whole.crop(Window(11, 22, 13, 24))
    assert part.looks is not None
    assert part.looks.tolist() == looks[:, 1:3, 2:4].tolist()
    assert (part.months, part.plane) == (whole.months, whole.plane)
    masked = whole.only(np.arange(20).reshape(4, 5) > 12)
    assert masked.looks is not None
    assert masked.looks.sum() == 7 + 1
    thin = whole.thinned(2)
    assert thin.looks is not None
    assert (thin.data.shape, thin.count.shape, thin.looks.shape) == ((2, 2, 3), (2, 3), (3, 2, 3))
    np.testing.assert_array_equal(part.place(), whole.place()[:, 1:3, 2:4])
    with pytest.raises(InputError, match="plane"):
        pixels().place()
