"""Chips of a map of embeddings: the sums of a block, and the table of the run.

A chip is 32 x 32 pixels of one lattice of the plane. Its sums are whole numbers, so those that blocks cut add up to the
same whatever the blocks are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from geoml.engine.contract import FinishedRun, Rows
from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.stac.times import time_range
from geoml.io.stores.store import atomic, check_regular
from geoml.io.tables import geoparquet
from geoml.io.tables.chip_vectors import chip_schema
from geoml.io.tables.geoparquet import Extent, Spill, bbox_column, bounds_of
from geoml.io.tables.ground import placed
from geoml.outputs._embedding_coding import NODATA
from geoml.vector.rings import Rings

SIDE = 32
"""Pixels of a side of a chip."""
Place = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ChipTotals:
    """Rows and columns on the lattice of chips, known pixels (n,) and sums (n, width) of what is stored, int64."""

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sums: NDArray[np.int64]

    def take(self, some: NDArray[np.bool_]) -> ChipTotals:
        return ChipTotals(self.row[some], self.col[some], self.pixels[some], self.sums[some])


class ChipSums:
    """Sums of the chips of a block while its rows pass."""

    def __init__(self, block: Block, width: int) -> None:
        self.block = block
        self.chips = block.window.coarser(SIDE)
        self.pixels = np.zeros(self.chips.shape, np.int32)
        self.sums = np.zeros((width, *self.chips.shape), np.int32)

    def add(self, rows: Rows) -> None:
        """Take rows."""
        values, w = rows["embedding"], rows.window
        known = values[0] != NODATA
        at = w.coarser(SIDE).slices(self.chips)
        counts, sums = (_by_chip(v, w.y0, w.x0) for v in (known[None], values))
        gaps = _by_chip(~known[None], w.y0, w.x0)
        self.pixels[at] += counts[0]
        self.sums[:, *at] += sums - NODATA * gaps

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the chips with data. Raises DataError."""
        row, col = np.nonzero(self.pixels)
        sums = pa.array(np.ascontiguousarray(self.sums[:, row, col].T).ravel())
        columns = {
            "row": pa.array(row + self.chips.y0, pa.int64()),
            "col": pa.array(col + self.chips.x0, pa.int64()),
            "pixels": pa.array(self.pixels[row, col].astype(np.int64)),
            "sums": pa.FixedSizeListArray.from_arrays(sums, len(self.sums)),
        }
        with atomic(path) as temporary:
            pq.write_table(pa.table(columns), temporary, compression="zstd", write_page_checksum=True)


def _by_chip(values: NDArray[Any], y0: int, x0: int) -> NDArray[np.int32]:
    """(band, chip row, chip column) sums of (band, y, x) whose first pixel lies there."""
    at = zip((y0, x0), values.shape[1:], strict=True)
    starts = (np.concatenate([[0], np.arange(SIDE - o % SIDE, n, SIDE)]) for o, n in at)
    for axis, where in enumerate(starts, 1):
        values = np.add.reduceat(values, where, axis=axis, dtype=np.int32)
    return values


def read_sums(width: int, path: Path) -> ChipTotals:
    """What `ChipSums.write` wrote. Raises DataError for a missing or damaged file."""
    try:
        table = pq.read_table(check_regular(path), page_checksum_verification=True).combine_chunks()
        row, col, pixels = (table[name].to_numpy() for name in ("row", "col", "pixels"))
        sums = np.concatenate([np.empty(0, np.int32), *(c.flatten().to_numpy() for c in table["sums"].chunks)])
        return ChipTotals(row, col, pixels, sums.astype(np.int64).reshape(len(row), width))
    except (OSError, KeyError, ValueError, pa.ArrowException) as err:
        raise DataError(f"{path}: chips of a block are not readable ({err})") from err


def write_chips(run: FinishedRun, scale: Sequence[float], offset: Sequence[float], path: Path) -> None:
    """Write the table of chips, see `geoml.io.tables.chip_vectors`. Raises DataError."""
    card = run.plan.card
    schema = chip_schema(len(scale), {"chip": SIDE, "nodata": NODATA, "scale": list(scale), "offset": list(offset)})
    about = {
        "model": pa.scalar(f"{card.name}/{card.version}/{card.sha256[:12]}"),
        **{
            name: pa.scalar(pd.Timestamp(t).tz_convert("UTC").to_pydatetime(), pa.timestamp("us", tz="UTC"))
            for name, t in zip(("start_datetime", "end_datetime"), time_range(run.items), strict=True)
        },
    }
    with geoparquet.scratch(path) as folder:
        extent, rows = Extent(), Spill(folder / "rows", schema, geoparquet.HELD // 4)
        for plane, chips in _joined(run, len(scale)):
            if len(chips.row):
                table = _table(plane, chips, schema, about)
                extent.add(bounds_of(table), geoparquet.types_of(table))
                rows.add(table)
        geoparquet.write_sorted(rows.tables(), extent, schema, path, folder)


def _joined(run: FinishedRun, width: int) -> Iterator[tuple[Plane, ChipTotals]]:
    """Whole chips: those inside of a block with it, those that blocks cut when no later one can hold a part of them."""
    waiting: dict[Place, ChipTotals] = {}
    before: Block | None = None
    for block, chips in run.parts(partial(read_sums, width)):
        if before is not None and waiting and (block.plane, block.iy) != (before.plane, before.iy):
            bottom = None if block.plane != before.plane else block.window.y0
            yield before.plane, _released(waiting, width, bottom)
        w = block.window
        inner = (chips.row * SIDE >= w.y0) & ((chips.row + 1) * SIDE <= w.y1)
        inner &= (chips.col * SIDE >= w.x0) & ((chips.col + 1) * SIDE <= w.x1)
        yield block.plane, chips.take(inner)
        cut = chips.take(~inner)
        for k, place in enumerate(zip(cut.row.tolist(), cut.col.tolist(), strict=True)):
            one = cut.take(np.arange(len(cut.row)) == k)
            if (there := waiting.get(place)) is not None:
                one = ChipTotals(one.row, one.col, one.pixels + there.pixels, one.sums + there.sums)
            waiting[place] = one
        before = block
    if before is not None and waiting:
        yield before.plane, _released(waiting, width, None)


def _released(waiting: dict[Place, ChipTotals], width: int, bottom: int | None) -> ChipTotals:
    """Chips that end above the row ``bottom`` of the plane, or all, which wait no longer."""
    done = [place for place in waiting if bottom is None or (place[0] + 1) * SIDE <= bottom]
    parts = [waiting.pop(place) for place in sorted(done)]
    row, col, pixels = (
        np.concatenate([np.empty(0, np.int64), *(getattr(p, name) for p in parts)]) for name in ("row", "col", "pixels")
    )
    return ChipTotals(row, col, pixels, np.concatenate([np.empty((0, width), np.int64), *(p.sums for p in parts)]))


def _table(plane: Plane, chips: ChipTotals, schema: pa.Schema, about: Mapping[str, pa.Scalar]) -> pa.Table:
    y, x, count = chips.row * SIDE, chips.col * SIDE, len(chips.row)
    ground = placed(Rings.of(shapely.box(x, y, x + SIDE, y + SIDE)).normalized(), plane)
    mean = (chips.sums / chips.pixels[:, None]).astype(np.float16)
    code = plane.code
    places = zip(chips.row.tolist(), chips.col.tolist(), strict=True)
    columns = {
        "id": pa.array([f"{code}_{SIDE}_y{row}_x{col}" for row, col in places], pa.string()),
        "plane": pa.repeat(pa.scalar(code), count),
        "row": chips.row,
        "col": chips.col,
        "pixels": chips.pixels.astype(np.int32),
        "valid": (chips.pixels / SIDE**2).astype(np.float32),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(mean.ravel()), mean.shape[1]),
        **{name: pa.repeat(value, count) for name, value in about.items()},
        "bbox": bbox_column(ground.bounds),
        "geometry": ground.wkb,
    }
    return pa.table(columns, schema=schema)
