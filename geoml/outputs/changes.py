"""Changes: classes of what happened to each pixel between dates; the first class is unchanged.

Stored beside the class is the probability that anything changed, 1 - P(unchanged). A model that needs no training has
a score of change in its place, which is not a probability. Features are changes between the items of two dates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml import models
from geoml.engine.contract import FinishedRun, Layer, Rows
from geoml.outputs import classes

if TYPE_CHECKING:
    from torch import Tensor

    from geoml.outputs._change_follower import ChangeFollower
    from geoml.outputs._class_report import ClassReport

TINY = {"classes": ("unchanged", "gain", "loss"), "task": "change", "dates": 2}
"""Arguments of `geoml.testing.card`, for the contract tests."""
SCORE = "score"
SCORE_MEANS = "score of change, 0.5 at the threshold; no probability"


@dataclass(frozen=True)
class Output(classes.Output):
    """As `geoml.outputs.classes`, of what changed."""

    changes: ClassVar[bool] = True
    beside: ClassVar[str] = "probability"
    means: ClassVar[str] = "probability of change"
    quiet: ClassVar[int | None] = 0

    @property
    def scored(self) -> bool:
        """True where what stands beside the class is a score."""
        return models.calibrated(self.card.architecture)

    @property
    def about(self) -> str:
        return f"class, {SCORE_MEANS if self.scored else self.means}"

    def _sure_layer(self) -> Layer:
        layer = super()._sure_layer()
        if not self.scored:
            return layer
        return replace(layer, key=SCORE, title=SCORE_MEANS, description=SCORE_MEANS, descriptions=(SCORE_MEANS,))

    def sure(self, probability: Tensor, top: Tensor) -> Tensor:
        """(B, y, x) probability of change of (B, K, y, x) probabilities."""
        return 1 - probability[:, 0]

    def encode_raw(self, raw: Tensor) -> list[Tensor]:
        """As `encode`."""
        return self.encode(self.average(raw))

    def called(self, rows: Rows) -> NDArray[np.bool_]:
        """(y, x) True where a class other than the first one is."""
        classes = rows["class"][0]
        found: NDArray[np.bool_] = (classes != self.values[0]) & (classes != self.card.nodata)
        return found

    def collect(self, run: FinishedRun) -> None:
        """Whole changes between the first and the last date, as GeoParquet."""
        from geoml.io.tables.changes import ChangeRows
        from geoml.outputs._class_features import write_rows

        dates = run.plan.by_date(run.sources)
        rows = ChangeRows(self.card, dates[0], dates[-1])
        write_rows(run, classes.SCALE, run.out / classes.FEATURES, rows)

    def follower(self) -> ChangeFollower:
        """A change that is seen again keeps its id."""
        from geoml.outputs._change_follower import ChangeFollower

        return ChangeFollower(self.card)

    def report(self, out: Path) -> ClassReport:
        """As of classes, with both dates and the probability (or score) of change."""
        from geoml.outputs._class_report import ClassReport

        key = self.layers[1].key
        return ClassReport(self.card, key, classes.STEPS, classes.NODATA, f"{key} of change")
