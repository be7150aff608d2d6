"""Quicklooks: size, channels, contrast, and black where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from geoml.cube.preview import channels, quicklook, stretch


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["blue", "green", "red", "nir"], (2, 1, 0)),
        (["nir", "swir16", "red", "vv"], (0, 1, 2)),
        (["vv", "vh"], (0,)),
    ],
)
def test_channels(names, expected) -> None:
    assert channels(names) == expected


@pytest.mark.parametrize(("shape", "factor"), [((100, 40), 1), ((512, 512), 1), ((513, 30), 2), ((2048, 1500), 4)])
def test_size(shape, factor) -> None:
    picture, used = quicklook(np.ones((1, *shape), np.uint8), np.ones(shape, bool), ["vv"])
    assert used == factor
    assert picture.shape == (-(-shape[0] // factor), -(-shape[1] // factor), 3)
    assert picture.dtype == np.uint8


def test_cells_are_means_of_what_is_valid() -> None:
    data = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    valid = np.ones((4, 4), bool)
    valid[0, 0] = False
    valid[2:, 2:] = False
    picture, _ = quicklook(data, valid, ["vv"], ((0.0, 255.0),), side=2)
    assert picture[..., 0].tolist() == [[int((1 + 4 + 5) / 3), int((2 + 3 + 6 + 7) / 4)], [int(42 / 4), 0]]
    assert (picture == picture[..., :1]).all()


def test_the_stretch_is_shared_or_measured() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(1000, 100, (3, 300, 300)).clip(1, None).astype(np.uint16)
    names, valid = ["red", "green", "blue"], np.ones((300, 300), bool)
    limits = stretch(data, valid, names)
    np.testing.assert_allclose(limits, [(795, 1205)] * 3, atol=8)
    np.testing.assert_array_equal(quicklook(data, valid, names)[0], quicklook(data, valid, names, limits)[0])
    picture, _ = quicklook(data, valid, names)
    assert 0.01 < (picture == 255).mean() < 0.03


def test_nothing_valid() -> None:
    data, valid = np.full((3, 8, 8), 9, np.uint16), np.zeros((8, 8), bool)
    assert stretch(data, valid, ["a", "b", "c"]) == ((0.0, 1.0),) * 3
    assert not quicklook(data, valid, ["a", "b", "c"])[0].any()
