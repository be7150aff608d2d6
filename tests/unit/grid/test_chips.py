"""The lattice of chips: every pixel is kept once (exact) or at least once with weight (blended), whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.grid.chips import CORE, ChipGrid, blend_window, blended_grid, exact_grid
from geoml.grid.plane import Window

corner = st.integers(-2000, 2000)
side = st.integers(1, 700)
windows = st.builds(lambda y, x, h, w: Window(y, x, y + h, x + w), corner, corner, side, side)
strides = st.sampled_from([1, 2, 8, 32])
exact_grids = st.builds(lambda r, s: exact_grid(256, r, s), st.integers(0, 150), strides)
blended_grids = st.builds(
    lambda n, o, s: blended_grid(n, o, s), st.sampled_from([128, 192, 256]), st.integers(0, 90), strides
)


def coverage(grid: ChipGrid, window: Window) -> np.ndarray:
    """How many kept areas hold each pixel of the window; plain counting."""
    count = np.zeros(window.shape, int)
    for row in grid.rows(window):
        for key in row:
            count[grid.output_window(*key).intersect(window).slices(window)] += 1
    return count


@given(exact_grids, windows)
def test_cores_tile_the_plane(grid: ChipGrid, window: Window) -> None:
    assert grid.exact
    assert (coverage(grid, window) == 1).all()


@given(blended_grids, windows)
def test_blended_chips_leave_no_pixel_out(grid: ChipGrid, window: Window) -> None:
    count = coverage(grid, window)
    assert count.min() >= 1
    assert count.max() <= (-(-grid.size // grid.step)) ** 2


@given(st.one_of(exact_grids, blended_grids), windows, st.tuples(side, side, side, side))
def test_a_pixel_has_the_same_chips_whatever_window_it_is_asked_for_in(
    grid: ChipGrid, a: Window, reach: tuple[int, int, int, int]
) -> None:
    up, left, down, right = reach
    pixel = Window(a.y0, a.x0, a.y0 + 1, a.x0 + 1)
    b = Window(a.y0 - up, a.x0 - left, a.y0 + down, a.x0 + right)

    def holders(window: Window) -> set[tuple[int, int]]:
        return {k for row in grid.rows(window) for k in row if grid.output_window(*k).touches(pixel)}

    assert holders(a) == holders(b) == {k for row in grid.rows(pixel) for k in row}


@given(st.one_of(exact_grids, blended_grids), windows)
def test_rows_hold_what_touches_and_needed_holds_the_chips(grid: ChipGrid, window: Window) -> None:
    needed = grid.input_window(window)
    rows = list(grid.rows(window))
    for row in rows:
        for key in row:
            assert grid.output_window(*key).touches(window)
            chip = grid.chip(*key)
            assert chip.intersect(needed) == chip
            assert chip.shape == (grid.size, grid.size)
            assert chip.y0 % grid.stride == 0
            assert chip.x0 % grid.stride == 0
    (top, left), (bottom, right) = rows[0][0], rows[-1][-1]
    assert not grid.output_window(top - 1, left).touches(window)
    assert not grid.output_window(top, left - 1).touches(window)
    assert not grid.output_window(bottom + 1, right).touches(window)
    assert not grid.output_window(bottom, right + 1).touches(window)


@given(st.integers(0, 1000), strides, st.sampled_from([64, 128, 256, 512]))
def test_the_halo_covers_the_radius(radius: int, stride: int, size: int) -> None:
    grid = exact_grid(size, radius, stride)
    assert radius <= grid.halo < radius + stride
    assert grid.size == grid.step + 2 * grid.halo
    assert CORE - stride < grid.step <= CORE
    assert CORE % stride or CORE % grid.step == 0


@given(st.sampled_from(["hann", "triangle", "flat"]), st.integers(1, 512))
def test_blend_weights_are_positive_and_symmetric(name: str, size: int) -> None:
    weights = blend_window(name, size)
    assert weights.shape == (size, size)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert np.allclose(weights, weights[::-1])
    assert np.allclose(weights, weights.T)
    assert weights.max() <= 1
    assert weights[size // 2, size // 2] == weights.max()


@pytest.mark.parametrize("name", ["hann", "triangle", "flat"])
def test_blend_weights_at_half_overlap_sum_to_a_constant(name: str) -> None:
    """The reason for these windows: chips half a chip apart weigh the same at every pixel."""
    line = blend_window(name, 64)[:, 31] / blend_window(name, 64)[31, 31]
    total = line[:32] + line[32:]
    assert np.allclose(total, total[0], atol=1e-3 if name == "hann" else 1e-5)


@pytest.mark.parametrize(
    "grid",
    [
        {"size": 0, "step": 1},
        {"size": 64, "step": 0},
        {"size": 64, "step": 65},
        {"size": 64, "step": 64, "halo": -1},
        {"size": 64, "step": 40, "halo": 8},
        {"size": 64, "step": 48, "halo": 8, "stride": 3},
        {"size": 64, "step": 32, "stride": 0},
    ],
)
def test_a_lattice_with_gaps_is_refused(grid: dict[str, int]) -> None:
    with pytest.raises(InputError, match="chips"):
        ChipGrid(**grid)


def test_a_blended_lattice_needs_steps() -> None:
    with pytest.raises(InputError, match="overlap"):
        blended_grid(128, 127, 8)
    with pytest.raises(InputError, match="window"):
        blend_window("gauss", 8)
