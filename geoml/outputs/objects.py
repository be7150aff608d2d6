"""Objects: boxes of a detector, each of one class, and how many there are of each.

Raw output is (K + 4, y, x): a heat map of objects for each class (logits), and how far the box that this pixel tells of
reaches to north, south, west and east (natural logarithms of pixels); of oriented boxes (K + 6, y, x), with cosine and
sine of twice the angle; with masks (K + 53, y, x), as `geoml.vector.masks` packs them. An object is a peak of its heat
map and belongs to the block that holds it. What overlaps a better one is suppressed by boxes as if once over the whole
run, whatever its class: the same rows for any blocks, workers and order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import BlockRun, FinishedRun, Layer, Rows
from geoml.errors import ModelError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.nn.metrics import IGNORE
from geoml.outputs._objects.levels import Level, gaps, levels_of_sizes, said
from geoml.outputs._objects.tables import SIDES, TABLES
from geoml.recipe import PredictRecipe
from geoml.vector.boxes import COLUMNS, LEVEL, ORIENTED
from geoml.vector.masks import MASK, WORDS

if TYPE_CHECKING:  # a plan asks an output for its layers and needs no torch, table or page
    from torch import Tensor

    from geoml.outputs._objects.follower import ObjectFollower
    from geoml.outputs._objects.part import ObjectPart
    from geoml.outputs._objects.report import ObjectReport

TINY = {"classes": ("car", "house"), "task": "detection"}
"""Arguments of `geoml.testing.card`, for the contract tests."""
SCORE = 0.3
"""From which on objects are reported by a card without thresholds of its own."""
LOW = 0.05
"""Of the weakest candidates, by which scores look at every threshold and objects are counted."""
MOST = 100_000
"""Candidates of one chip; a network that gives more finds something everywhere."""
OVERLAP = 0.5
"""Intersection over union above which two boxes are one object."""


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
    tables: ClassVar[Mapping[str, str]] = TABLES

    @property
    def raw(self) -> int:
        return len(self.card.classes) + len(SIDES) + 2 * self.oriented + WORDS * self.masks

    @property
    def oriented(self) -> bool:
        """True where the network gives the cosine and sine of twice an angle behind the sides."""
        return bool(self.card.config.get("oriented"))

    @property
    def masks(self) -> bool:
        """True where the network gives a mask behind the sides."""
        return bool(self.card.config.get("masks"))

    @property
    def _columns(self) -> tuple[str, ...]:
        """Of candidates, as `answer` has them."""
        return ORIENTED if self.oriented else (*COLUMNS, *([MASK] if self.masks else []))

    @property
    def least(self) -> float:
        """Score of the weakest candidate: in a run the card says how many low ones are worth something."""
        if self.card.detection is not None:
            return self.card.detection.least
        return LOW if self.recipe is None else SCORE

    def candidates(self, raw: Tensor, chip: Window, known: Tensor) -> Mapping[str, Tensor]:
        """As `geoml.engine.contract.OwnedOutput.candidates`: the columns of `geoml.vector.boxes` and ``valid``.

        ``y`` and ``x`` are the pixel of the peak. No side is farther from it than the card's chips are wide: of more
        the network cannot see the other end. Raises ModelError in a run for more than `MOST`.
        """
        from geoml.outputs._objects.peaks import candidates

        values = [c.value for c in self.card.classes]
        found = candidates(raw, chip, known, values, self.least, self.card.chip_size)
        if self.recipe is not None and (count := len(found["score"])) > MOST:
            height, width = chip.shape
            raise ModelError(
                f"{self.card.name}: {count:,} candidates of a score of {self.least:g} or more in one chip of"
                f" {height} x {width} pixels, at most {MOST:,} are possible; check weights and normalisation"
            )
        return found

    @property
    def factors(self) -> tuple[int, ...]:
        """Of the recipe's pyramid."""
        return self.recipe.pyramid if self.recipe else ()

    @cached_property
    def _sizes(self) -> dict[int, Level]:
        return levels_of_sizes(self.card, self.factors)

    def at_level(self, found: Mapping[str, NDArray[np.number]], factor: int) -> dict[str, NDArray[np.number]]:
        """As `geoml.engine.contract.OwnedOutput.at_level`, with a column ``level``."""
        return self._sizes[factor].of(found, self.card.gsd)

    def levels(self) -> list[dict[str, Any]]:
        """``factor``, ``gsd`` in metres, ``least_m`` and ``most_m``: longer sides that look as large as was learnt."""
        return said(self._sizes, self.card.gsd) if self.factors else []

    def warnings(self) -> list[str]:
        """Sizes that no level of the pyramid knows."""
        return gaps(self._sizes)

    def answer(self, rows: Rows) -> tuple[NDArray[np.number], ...]:
        """Float64 candidates for `geoml.nn.objects.box_scores.BoxScores`, (n, 8), (n, 9) of oriented boxes, (n, 57)
        with masks; nothing is suppressed yet."""
        names = self._columns
        if not rows.arrays:
            return (np.empty((0, len(names) + (WORDS - 1) * self.masks)),)
        boxes = {**rows.arrays, **{axis: rows[axis] + 0.5 for axis in "yx"}}
        index = np.full(256, IGNORE)
        index[[c.value for c in self.card.classes]] = np.arange(len(self.card.classes))
        return (np.column_stack([boxes[k] if k != "class" else index[boxes[k]] for k in names]).astype(np.float64),)

    def part(self, run: BlockRun) -> ObjectPart:
        """Boxes of a block."""
        from geoml.outputs._objects.part import ObjectPart

        return ObjectPart(run, (*self._columns, *((LEVEL,) if self.factors else ())))

    def collect(self, run: FinishedRun) -> None:
        """Objects as GeoParquet, and their summary."""
        from geoml.outputs._objects.features import write_tables

        write_tables(run, OVERLAP, SCORE)

    def follower(self) -> ObjectFollower:
        """An object that is seen again keeps its id."""
        from geoml.outputs._objects.follower import ObjectFollower

        return ObjectFollower(self.card)

    def report(self, out: Path) -> ObjectReport:
        """Boxes on the map, and their numbers."""
        from geoml.outputs._objects.report import ObjectReport

        return ObjectReport(out, self.card, SCORE, self.levels())
