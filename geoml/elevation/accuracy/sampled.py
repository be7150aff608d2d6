"""The layers of a run at places, between the centres of cells, whatever block these lie in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geoml.elevation.accuracy.bilinear import between
from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.local_files import local_files
from geoml.io.stores.store import within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LAYERS = ("dtm", "distance")


def sampled(
    out: Path, plane: Plane, size: int, done: Iterable[str], x: Floats, y: Floats, layers: Sequence[str] = LAYERS
) -> dict[str, Floats]:
    """(n,) ``dtm``, its ``slope`` in degrees and ``distance`` at places (n,), NaN where a block or value is missing.

    ``dtm`` and ``slope`` are bilinear between four cell centres, ``distance`` of the cell. Of a run without terrain
    among its ``layers`` they are those of its surface. ``out`` is the folder of a run, whose blocks of ``size`` cells
    are ``done`` by their ids. Raises DataError for a file that cannot be read.
    """
    ready = set(done)
    main = "dtm" if "dtm" in layers else "dsm"
    heights = between(plane, x, y, lambda row, col: _cells(out, plane, size, ready, main, row, col))
    row, col = (np.floor(v / plane.res - plane.anchor).astype(np.int64) for v in (-y, x))
    known = "distance" in layers
    return {
        "dtm": heights.value,
        "slope": np.degrees(np.arctan(heights.gradient / plane.res)),
        "distance": _cells(out, plane, size, ready, "distance", row, col) if known else np.full(len(x), np.nan),
    }


def _cells(out: Path, plane: Plane, size: int, ready: set[str], layer: str, row: Ints, col: Ints) -> Floats:
    """(n,) the values of cells of the plane."""
    found = np.full(len(row), np.nan)
    block = np.stack([row // size, col // size], axis=1)
    named, which = np.unique(block, axis=0, return_inverse=True)
    for number, (iy, ix) in enumerate(named.tolist()):
        key = Block(plane, size, iy, ix).id
        if key not in ready:
            continue
        at = np.flatnonzero(which.reshape(-1) == number)
        values = _read(within(out, f"cogs/{key}/{layer}.tif"))
        found[at] = values[row[at] - iy * size, col[at] - ix * size]
    return found


def _read(path: Path) -> Floats:
    try:
        with local_files(), rasterio.open(path, driver="GTiff") as file:
            values: Floats = file.read(1, masked=True).astype(np.float64).filled(np.nan)
            return values
    except (RasterioError, OSError) as err:
        raise DataError(f"{path}: not as it was written ({err}); delete the block's item to redo it") from err
