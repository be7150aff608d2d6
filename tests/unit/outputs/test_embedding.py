"""What is stored of embeddings: int8 by one coding, exact colours, chips whole for any blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geoml import testing
from geoml.engine.contract import Rows
from geoml.errors import DataError, InputError
from geoml.grid.plane import Block, Plane, Window
from geoml.outputs._embedding_chips import SIDE, ChipSums, read_sums
from geoml.outputs._embedding_coding import DEVIATIONS, LARGEST, NODATA
from geoml.outputs.embedding import Output

WIDTH = 12
PLANE = Plane("EPSG:32621", 10.0)


def vectors(count: int = 4000) -> NDArray[np.float32]:
    """Correlated numbers of very different means and deviations."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(count, 4)) @ random.normal(size=(4, WIDTH)) + 0.1 * random.normal(size=(count, WIDTH))
    return (mixed * np.logspace(-1, 2, WIDTH) + np.linspace(-5, 5, WIDTH)).astype(np.float32)


def output(**made: Any) -> Output:
    return Output(testing.card("made", ["red"], (), task="embedding", channels=WIDTH, made=made))


@pytest.fixture
def fitted() -> Output:
    return output(**Output.fitted(vectors()))


def encoded(of: Output, values: NDArray[np.float32]) -> list[NDArray[Any]]:
    raw = torch.from_numpy(values.T[None, :, :, None].copy())
    return [t[0, :, :, 0].numpy() for t in of.encode_raw(raw)]


def test_what_is_stored_is_within_half_a_step_of_the_embedding(fitted: Output) -> None:
    values, how = vectors(), fitted.config
    stored = encoded(fitted, values)[0].astype(np.float64)
    scale, offset = np.array(how.scale)[:, None], np.array(how.offset)[:, None]
    kept = np.abs(stored) < LARGEST
    assert kept.mean() > 0.999
    assert (np.abs(stored * scale + offset - values.T) / scale)[kept].max() <= 0.51
    np.testing.assert_allclose(scale[:, 0] * LARGEST, DEVIATIONS * values.std(axis=0), rtol=1e-4)
    beyond = encoded(fitted, values + 1e6)[0]
    assert (beyond == LARGEST).all()  # never nodata


def test_colours_are_the_components_that_hold_most_of_the_variance(fitted: Output) -> None:
    values = vectors()
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    left, strength, _ = np.linalg.svd(standard, full_matrices=False)
    np.testing.assert_allclose(fitted.config.explained, (strength**2 / (strength**2).sum())[:3], rtol=1e-3)
    colours = encoded(fitted, values)[1].astype(float)
    assert colours.min() == 1
    assert colours.max() == 255
    for colour, component in zip(colours, left.T, strict=False):
        inner = (colour > 1) & (colour < 255)
        assert abs(np.corrcoef(colour[inner], component[inner])[0, 1]) > 0.999


def test_a_number_that_never_changes_is_stored_as_nothing_special() -> None:
    values = vectors(100)
    values[:, 3] = 7.0
    found = output(**Output.fitted(values))
    assert (encoded(found, values)[0][3] == 0).all()


def test_a_package_has_no_coding_yet() -> None:
    with pytest.raises(InputError, match="made: made"):
        _ = output().layers


def block_rows(block: Block, values: NDArray[np.int8], whole: Window, cuts: tuple[int, ...]) -> ChipSums:
    sums, w = ChipSums(block, len(values)), block.window
    for a, b in zip(cuts, [*cuts[1:], block.size], strict=True):
        rows = Window(w.y0 + a, w.x0, w.y0 + b, w.x1)
        sums.add(Rows(rows, {"embedding": values[:, *rows.slices(whole)]}))
    return sums


@pytest.mark.parametrize(("size", "cuts"), [(64, (0,)), (64, (0, 1, 33, 50)), (90, (0, 7))])
def test_sums_of_blocks_add_up_to_those_of_the_chips(size: int, cuts: tuple[int, ...], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    whole = Window(-2 * size, 3 * size, 0, 5 * size)
    values = random.integers(-127, 128, (5, *whole.shape)).astype(np.int8)
    gaps = random.random(whole.shape) < 0.4
    gaps[:40, :70] = True
    values[:, gaps] = NODATA
    total: dict[tuple[int, int], NDArray[np.int64]] = {}
    for iy in (-2, -1):
        for ix in (3, 4):
            path = tmp_path / f"{iy}{ix}.parquet"
            block_rows(Block(PLANE, size, iy, ix), values, whole, cuts).write(path, None)
            found = read_sums(5, path)
            assert (found.pixels > 0).all()
            for place, pixels, sums in zip(
                zip(found.row, found.col, strict=True), found.pixels, found.sums, strict=True
            ):
                total[place] = total.get(place, np.zeros(6, np.int64)) + np.array([pixels, *sums])
    expected = {}
    y, x = np.nonzero(~gaps)
    for row, col, vector in zip((y + whole.y0) // SIDE, (x + whole.x0) // SIDE, values[:, y, x].T, strict=True):
        expected[row, col] = expected.get((row, col), np.zeros(6, np.int64)) + np.array([1, *vector.astype(np.int64)])
    assert total.keys() == expected.keys()
    assert all((total[place] == expected[place]).all() for place in total)


def test_a_damaged_part_is_a_broken_source(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="chips of a block are not readable"):
        read_sums(5, tmp_path / "part.parquet")
