"""The paths of bytes give what the definition of semi-global matching does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geoml.cube.stereo.sgm import MAX_COST, P1, P2, aggregate
from geoml.errors import InputError

DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def defined(costs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(y, disparity, x) sums over eight paths, written as in the paper."""
    height, depth, width = costs.shape
    total = np.zeros(costs.shape, np.int64)
    for dy, dx in DIRECTIONS:
        paths = np.zeros(costs.shape, np.int64)
        for y in range(height)[:: -1 if dy < 0 else 1]:
            for x in range(width)[:: -1 if dx < 0 else 1]:
                here = costs[y, :, x].astype(np.int64)
                if 0 <= y - dy < height and 0 <= x - dx < width:
                    before = paths[y - dy, :, x - dx]
                    low = before.min()
                    for d in range(depth):
                        ways = [before[d], low + P2]
                        ways += [before[d - 1] + P1] if d else []
                        ways += [before[d + 1] + P1] if d + 1 < depth else []
                        paths[y, d, x] = here[d] + min(ways) - low
                else:
                    paths[y, :, x] = here
        total += paths
    return total


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(3, 11), st.integers(2, 12))
def test_equal_to_the_definition(seed: int, height: int, depth: int, width: int) -> None:
    costs = np.random.default_rng(seed).integers(0, MAX_COST + 1, (height, depth, width), dtype=np.uint8)
    total = defined(costs)
    found = aggregate(costs)
    assert np.array_equal(found.index, total.argmin(1))
    inner = (found.index > 0) & (found.index < depth - 1)
    assert np.array_equal(np.isfinite(found.position), inner)
    y, x = np.nonzero(inner)
    k = found.index[y, x]
    low, mid, high = (total[y, k + s, x] for s in (-1, 0, 1))
    assert np.array_equal(found.total[y, x], mid)
    assert np.array_equal(found.bend[y, x], low + high - 2 * mid)
    steep = np.maximum(np.maximum(low, high) - mid, 1)
    np.testing.assert_allclose(found.position[y, x], k + (low - high) / (2 * steep), atol=1e-6)
    for row, column in zip(y, x, strict=True):  # the right picture's pixel of a match has its own least total
        at = column - found.index[row, column]
        ways = [total[row, k, at + k] if 0 <= at + k < width else np.inf for k in range(depth)]
        assert found.other[row, column] == int(np.argmin(ways))


def test_the_largest_costs_do_not_overflow() -> None:
    costs = np.full((6, 5, 7), MAX_COST, np.uint8)
    costs[3, 2, 3] = 0
    assert np.array_equal(aggregate(costs).index, defined(costs).argmin(1))


def test_more_disparities_than_a_byte_counts() -> None:
    costs = np.random.default_rng(0).integers(0, MAX_COST + 1, (2, 270, 3), dtype=np.uint8)
    costs[:, 262] = 0
    assert np.array_equal(aggregate(costs).index, defined(costs).argmin(1))


def test_other_arrays_are_refused() -> None:
    for bad in (np.zeros((3, 2, 3), np.uint8), np.zeros((3, 3, 3), np.uint16), np.zeros((3, 3), np.uint8)):
        with pytest.raises(InputError, match="uint8 of three"):
            aggregate(bad)
