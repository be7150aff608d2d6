"""What the blocks of a run leave for the tables of objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import BlockRun, Rows
from geoml.io.tables.objects import CELL, FoundObjects, write_found
from geoml.vector.boxes import LEVEL
from geoml.vector.masks import MASK, WORDS


class ObjectPart:
    """What the chips of a block found inside the region, and where was looked."""

    def __init__(self, run: BlockRun, columns: Sequence[str]) -> None:
        self.run, self.columns = run, columns
        self.rows: list[dict[str, NDArray[np.number]]] = []

    def add(self, rows: Rows) -> None:
        """Keep what has its peak inside the region."""
        if rows.arrays:
            mine = self.run.asked[self._pixels(rows.arrays)]
            self.rows.append({name: column[mine] for name, column in rows.arrays.items()})

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the boxes, ordered by row, column and class. Raises DataError."""
        names = (*self.columns, "valid")
        dtypes = {"class": np.uint8, MASK: np.uint16}
        boxes: dict[str, NDArray[np.number]] = {
            k: np.concatenate([np.empty((0, WORDS) if k == MASK else 0), *(r[k] for r in self.rows)]).astype(
                dtypes.get(k, np.float64)
            )
            for k in names
        }
        boxes["outside"] = np.full(len(boxes["y"]), np.nan)
        if outside is not None:
            boxes["outside"] = outside[self._pixels(boxes)].astype(np.float64)
        boxes["y"], boxes["x"] = boxes["y"] + 0.5, boxes["x"] + 0.5
        level = (boxes[LEVEL],) if LEVEL in boxes else ()
        order = np.lexsort((*level, boxes["class"], boxes["x"], boxes["y"]))
        write_found(FoundObjects({k: v[order] for k, v in boxes.items()}, self._searched()), path)

    def _pixels(self, boxes: Mapping[str, NDArray[np.number]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns in the block of the pixels that hold the peaks."""
        window = self.run.block.window
        y, x = (np.floor(boxes[axis]).astype(np.int64) for axis in "yx")
        return y - window.y0, x - window.x0

    def _searched(self) -> Counter[tuple[int, int]]:
        window, found = self.run.block.window, Counter[tuple[int, int]]()
        y, x = np.nonzero(self.run.asked & self.run.inner.valid)
        squares, counts = np.unique(
            np.stack([(y + window.y0) // CELL, (x + window.x0) // CELL]), axis=1, return_counts=True
        )
        for row, col, n in zip(*squares.tolist(), counts.tolist(), strict=True):
            found[row, col] += n
        return found
