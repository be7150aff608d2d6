"""The blocks of a run of thousands on the page: counts and sketches from ``items.parquet``; no file of them is opened.

Memory is that of the page and of some bytes for each block.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError
from geoml.grid.plane import Plane, Window
from geoml.io.report.blocks import Painted, is_known
from geoml.io.report.canvas import Canvas
from geoml.io.report.counts import COUNTS, SIDE, SKETCH, observed_of, sketch_of
from geoml.io.report.part import CountTaker, ReportLayer

MANY = 1000
"""Blocks from which on their files are not opened: at most some 45 pixels of the page lie along a side of one."""
BATCH = 4096
"""Blocks in memory at a time."""
STRIP = 64
"""Rows of the canvas that are worked on at a time."""
Slot = tuple[NDArray[np.int32], NDArray[np.uint8]]
"""(y, x) of the canvas: the row of the table whose block lies there, -1 for none; and the pixel of its sketch."""
ID = re.compile(r"(.+)_(\d+)_y(-?\d+)_x(-?\d+)")
"""Id of a block: code of the plane, size, row and column."""


class BlockRows:
    """Blocks of ``items.parquet``. Raises DataError for one that cannot be read, or has blocks without counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        ids: list[str] = []
        boxes = []
        for rows in self._batches("id", "bbox", COUNTS, SKETCH):
            if any(rows[name].null_count for name in (COUNTS, SKETCH)):
                raise DataError(f"{path}: blocks without counts")
            ids += rows["id"].to_pylist()
            sides = rows["bbox"].combine_chunks()
            boxes.append(np.column_stack([np.asarray(sides.field(k)) for k in ("xmin", "ymin", "xmax", "ymax")]))
        self.ids, self.boxes = ids, np.concatenate([np.empty((0, 4)), *boxes])

    def outlines(self) -> list[BaseGeometry]:
        """The corners of all blocks, in degrees."""
        return [shapely.multipoints(self.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2))]

    def codes(self) -> set[str]:
        """The CRSs that the items say."""
        return {str(code) for rows in self._batches("proj:code") for code in rows["proj:code"].unique().to_pylist()}

    def used(self) -> Counter[str]:
        """How many blocks used each source."""
        found: Counter[str] = Counter()
        for rows in self._batches("geoml:sources"):
            counted = rows["geoml:sources"].combine_chunks().flatten().value_counts()
            found.update(
                dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
            )
        return found

    def paint(
        self, canvas: Canvas, part: CountTaker, drawn: Mapping[str, ReportLayer], stored: Mapping[str, NDArray[Any]],
        planes: Sequence[Plane],
    ) -> Painted:  # fmt: skip
        """Add up the counts, and paint the sketches into ``stored``, by layer (band, y, x) on the canvas."""
        slots = self._owners(canvas, {plane.code: plane for plane in planes})
        observed, first = np.zeros(256, np.int64), 0
        for rows in self._batches(COUNTS, SKETCH):
            try:
                for counts in rows[COUNTS].to_pylist():
                    observed += observed_of(counts)
                    part.add(counts)
                sketches = rows[SKETCH].combine_chunks()
                for name in [f.name for f in sketches.type if f.name in stored]:
                    layer = drawn.get(name)
                    small = np.stack([sketch_of(text, layer) for text in sketches.field(name).to_pylist()])
                    for owner, cell in slots:
                        _paint(stored[name], small, layer, owner, cell, first)
            except (LookupError, TypeError, ValueError) as err:
                raise DataError(f"{self.path}: not the counts of blocks ({err!r})") from err
            first += len(rows)
        return Painted(observed, {})

    def _owners(self, canvas: Canvas, planes: Mapping[str, Plane]) -> list[Slot]:
        """Which blocks lie where on the canvas; more than one slot where blocks of two zones overlap."""
        slots: list[Slot] = []
        grids: dict[tuple[Plane, int], list[tuple[int, int, int]]] = {}
        for number, name in enumerate(self.ids):
            match = ID.fullmatch(name)
            if match is None or match[1] not in planes:
                raise DataError(f"{self.path}: {name} is not a block of the run")
            grids.setdefault((planes[match[1]], int(match[2])), []).append((int(match[3]), int(match[4]), number))
        for (plane, size), blocks in grids.items():
            _own(canvas, plane, size, np.array(blocks), slots)
        return slots

    def _batches(self, *columns: str) -> Iterator[pa.Table]:
        try:
            with pq.ParquetFile(self.path, page_checksum_verification=True) as file:
                if missing := set(columns) - set(file.schema_arrow.names):
                    raise DataError(f"{self.path}: no column {', '.join(sorted(missing))}")
                for batch in file.iter_batches(BATCH, columns=list(columns)):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as err:
            raise DataError(f"{self.path}: cannot be read ({err})") from err


def _own(canvas: Canvas, plane: Plane, size: int, blocks: NDArray[np.int64], slots: list[Slot]) -> None:
    """Put down what lies where of the blocks (row, column, number) of a plane, in the first slot that is free there."""
    (iy0, ix0), (iy1, ix1) = blocks[:, :2].min(axis=0), blocks[:, :2].max(axis=0) + 1
    window = Window(int(iy0) * size, int(ix0) * size, int(iy1) * size, int(ix1) * size)
    grid = plane.geobox(window).affine
    place = canvas.part(grid, window.shape, plane.crs)
    if place is None:
        return
    width = ix1 - ix0
    keys = (blocks[:, 0] - iy0) * width + blocks[:, 1] - ix0
    order = np.argsort(keys)
    keys, numbers = keys[order], blocks[order, 2]
    for top in range(place[0].start, place[0].stop, STRIP):
        part = slice(top, min(top + STRIP, place[0].stop)), place[1]
        col, row = canvas.places(part, grid, plane.crs)
        inside = (row >= 0) & (row < window.shape[0]) & (col >= 0) & (col < window.shape[1])
        row, col = np.where(inside, row, 0).astype(np.int64), np.where(inside, col, 0).astype(np.int64)
        wanted = row // size * width + col // size
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        inside &= keys[at] == wanted
        pixel = row % size * SIDE // size * SIDE + col % size * SIDE // size
        for k in count():
            if not inside.any():
                break
            if k == len(slots):
                slots.append((np.full(canvas.shape, -1, np.int32), np.zeros(canvas.shape, np.uint8)))
            owner, cell = slots[k]
            free = inside & (owner[part] < 0)
            owner[part][free], cell[part][free] = numbers[at][free], pixel[free]
            inside &= ~free


def _paint(
    layer: NDArray[Any],
    small: NDArray[Any],
    about: ReportLayer | None,
    owner: NDArray[np.int32],
    cell: NDArray[np.uint8],
    first: int,
) -> None:
    """Paint the sketches (block, band, y, x) of blocks from number ``first`` on where ``owner`` is one of them."""
    flat = small.reshape(*small.shape[:2], -1)
    for top in range(0, len(owner), STRIP):
        rows = slice(top, top + STRIP)
        y, x = np.nonzero((owner[rows] >= first) & (owner[rows] < first + len(small)))
        values = flat[owner[rows][y, x] - first, :, cell[rows][y, x]].T
        known = values[3] > 0 if about is None else is_known(values[0], about.nodata)
        layer[:, top + y[known], x[known]] = values[:, known]
