"""Objects: boxes of a one-stage detector, each of one class, and how many there are of each.

Raw output is (K + 4, y, x): a heat map of centres for each class (logits), and how far the box of a centre in this
pixel reaches to north, south, west and east (natural logarithms of pixels). An object is a peak of its heat map and
belongs to the block that holds it. What overlaps a better one is suppressed as if once over the whole run, whatever its
class: the same rows for any blocks, workers and order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoml.engine.contract import BlockRun, FinishedRun, Layer, Rows
from geoml.errors import ModelError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.tables.objects import CELL, FoundObjects, write_found
from geoml.nn.metrics import IGNORE
from geoml.outputs._objects_features import FEATURES, SUMMARY, write_tables
from geoml.outputs._objects_report import ObjectReport
from geoml.recipe import PredictRecipe
from geoml.vector.boxes import COLUMNS

TINY = {"classes": ("car", "house"), "task": "detection"}
"""Arguments of `geoml.testing.card`, for the contract tests."""
SIDES = ("north", "south", "west", "east")
SCORE = 0.3
"""Peaks of a run are at least so high."""
LOW = 0.05
"""Without a run, for scores, which look at every threshold."""
OVERLAP = 0.5
"""Intersection over union above which two boxes are one object."""
STEPS = 10_000
"""Steps of a score: what two processors make differently in the last digits is no other peak."""
FINE = 16
"""Steps of a pixel that sides of boxes lie on."""


class ObjectPart:
    """What the chips of a block found inside the region, and where was looked."""

    def __init__(self, run: BlockRun) -> None:
        self.run = run
        self.rows: list[dict[str, NDArray[np.number]]] = []

    def add(self, rows: Rows) -> None:
        """Keep what has its centre inside the region."""
        if rows.arrays:
            mine = self.run.asked[self._pixels(rows.arrays)]
            self.rows.append({name: column[mine] for name, column in rows.arrays.items()})

    def write(self, path: Path, outside: NDArray[np.bool_] | None) -> None:
        """Write the boxes, ordered by row, column and class. Raises DataError."""
        names = (*COLUMNS, "valid")
        dtypes = {"class": np.uint8}
        boxes: dict[str, NDArray[np.number]] = {
            k: np.concatenate([np.empty(0), *(r[k] for r in self.rows)]).astype(dtypes.get(k, np.float64))
            for k in names
        }
        boxes["outside"] = np.full(len(boxes["y"]), np.nan)
        if outside is not None:
            boxes["outside"] = outside[self._pixels(boxes)].astype(np.float64)
        boxes["y"], boxes["x"] = boxes["y"] + 0.5, boxes["x"] + 0.5
        order = np.lexsort((boxes["class"], boxes["x"], boxes["y"]))
        write_found(FoundObjects({k: v[order] for k, v in boxes.items()}, self._searched()), path)

    def _pixels(self, boxes: Mapping[str, NDArray[np.number]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns in the block of the pixels that hold the centres."""
        window = self.run.block.window
        return boxes["y"].astype(np.int64) - window.y0, boxes["x"].astype(np.int64) - window.x0

    def _searched(self) -> Counter[tuple[int, int]]:
        window, found = self.run.block.window, Counter[tuple[int, int]]()
        y, x = np.nonzero(self.run.asked & self.run.inner.valid)
        squares, counts = np.unique(
            np.stack([(y + window.y0) // CELL, (x + window.x0) // CELL]), axis=1, return_counts=True
        )
        for row, col, n in zip(*squares.tolist(), counts.tolist(), strict=True):
            found[row, col] += n
        return found


@dataclass(frozen=True)
class Output:
    """`geoml.engine.contract.OwnedOutput` of boxes; without its tables nothing is left, so they are always written."""

    card: MapCard
    recipe: PredictRecipe | None = None

    joiner: ClassVar[Literal["owner"]] = "owner"
    changes: ClassVar[bool] = False
    reach: ClassVar[int] = 1
    layers: ClassVar[tuple[Layer, ...]] = ()
    about: ClassVar[str] = ""
    tables: ClassVar[Mapping[str, str]] = {
        FEATURES: "GeoParquet 1.1: a box for each object",
        SUMMARY: "Parquet: how many of each class, and how much ground was searched",
    }

    @property
    def raw(self) -> int:
        return len(self.card.classes) + len(SIDES)

    @property
    def least(self) -> float:
        """Score of the weakest candidate."""
        return LOW if self.recipe is None else SCORE

    def candidates(self, raw: Tensor, chip: Window, known: Tensor) -> Mapping[str, Tensor]:
        """As `geoml.engine.contract.OwnedOutput.candidates`: the columns of `geoml.vector.boxes` and ``valid``.

        ``y`` and ``x`` are the pixel of the centre. No side is farther from it than the card's chips are wide: of more
        the network cannot see the other end.
        """
        raw = raw.float()
        if bad := int((~torch.isfinite(raw).all(0) & known).sum()):
            raise ModelError(f"the output of the model is not finite in {bad} pixels; check weights and normalisation")
        heat = torch.sigmoid(raw[: -len(SIDES)]).masked_fill(~known, 0)
        index, y, x = torch.nonzero(_peaks(heat) & (heat >= self.least), as_tuple=True)
        sides = raw[-len(SIDES) :, y, x].exp().clamp(0.5, self.card.chip_size).mul(FINE).round().div(FINE)
        values = torch.tensor([c.value for c in self.card.classes], device=raw.device)
        found = {"y": y + chip.y0, "x": x + chip.x0, **dict(zip(SIDES, sides, strict=True))}
        share = _share(known, y, x, sides)
        return {
            **found,
            "score": heat[index, y, x].mul(STEPS).round().div(STEPS),
            "class": values[index],
            "valid": share,
        }

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """(n, 8) float64 candidates as `geoml.nn.box_scores.BoxScores` takes them; nothing is suppressed yet."""
        if not rows.arrays:
            return (np.empty((0, len(COLUMNS))),)
        boxes = {**rows.arrays, **{axis: rows[axis] + 0.5 for axis in "yx"}}
        index = np.full(256, IGNORE)
        index[[c.value for c in self.card.classes]] = np.arange(len(self.card.classes))
        return (np.column_stack([boxes[k] if k != "class" else index[boxes[k]] for k in COLUMNS]).astype(np.float64),)

    def part(self, run: BlockRun) -> ObjectPart:
        """Boxes of a block."""
        return ObjectPart(run)

    def collect(self, run: FinishedRun) -> None:
        """Objects as GeoParquet, and their summary."""
        write_tables(run, OVERLAP)

    def report(self, out: Path) -> ObjectReport:
        """Boxes on the map, and their numbers."""
        return ObjectReport(out, self.card)


def _peaks(heat: Tensor) -> Tensor:
    """(K, y, x) True where no neighbour is higher; of a flat top the first pixel alone, or it would be many peaks."""
    around = F.pad(heat, (1, 1, 1, 1), value=-1.0)
    height, width = heat.shape[1:]
    peak = torch.ones_like(heat, dtype=torch.bool)
    for dy in range(3):
        for dx in range(3):
            other = around[:, dy : dy + height, dx : dx + width]
            peak &= heat > other if (dy, dx) < (1, 1) else heat >= other
    return peak


def _share(known: Tensor, y: Tensor, x: Tensor, sides: Tensor) -> Tensor:
    """(n,) share of the pixels of boxes, as far as they lie in the chip, that are ``known`` (y, x)."""
    height, width = known.shape
    total = F.pad(known.to(torch.int32).cumsum(0).cumsum(1), (1, 0, 1, 0))
    north, south, west, east = sides
    top, left = ((c + 0.5 - side).floor().clamp(min=0).long() for c, side in ((y, north), (x, west)))
    bottom = (y + 0.5 + south).ceil().clamp(max=height).long()
    right = (x + 0.5 + east).ceil().clamp(max=width).long()
    seen = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    share: Tensor = seen / ((bottom - top) * (right - left))
    return share
