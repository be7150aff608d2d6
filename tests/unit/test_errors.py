"""An allocation that fails, of whichever library, is an error that may go away."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from rasterio._err import CPLE_OutOfMemoryError
from rasterio.errors import RasterioIOError

from geoml.errors import DataError, InputError, ModelError, TransientError, limits, out_of_memory


def of_numpy() -> object:
    return np.empty(2**60, np.uint8)


def of_torch() -> object:
    return torch.empty(2**60, dtype=torch.uint8)


def of_arrow() -> object:
    return pa.allocate_buffer(2**60)


def of_python() -> object:
    return bytearray(2**60)


def of_the_kernel() -> object:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def of_gdal() -> object:
    """As rasterio raises it: what GDAL says is the cause."""
    raise RasterioIOError("Read failed. See previous exception for details.") from CPLE_OutOfMemoryError(
        1, 2, "no room"
    )


def of_a_reader() -> object:
    """That took it for the fault of its file."""
    try:
        return of_numpy()
    except MemoryError as err:
        raise DataError("a.tif: not readable") from err


@pytest.mark.parametrize("fails", [of_numpy, of_torch, of_arrow, of_python, of_the_kernel, of_gdal, of_a_reader])
def test_what_fails_for_memory_may_work_later(fails: Callable[[], object]) -> None:
    said = r"block b: not enough memory .*; free some, or use smaller blocks"
    with pytest.raises(TransientError, match=said), limits("block b"):
        fails()


@pytest.mark.parametrize(
    "error", [DataError("a.tif: damaged"), InputError("out"), ModelError("nan"), ValueError("7"), OSError(28, "full"),
              RuntimeError("The size of tensor a (3) must match"), KeyboardInterrupt()],
)  # fmt: skip
def test_everything_else_stays_what_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as told, limits("block b"):
        raise error
    assert told.value is error
    assert not out_of_memory(error)


def test_what_may_go_away_is_not_told_twice() -> None:
    said = TransientError("weights: not enough memory for a single chip")
    with pytest.raises(TransientError) as told, limits("blocks"), limits("block b"):
        raise said from MemoryError()
    assert told.value is said
