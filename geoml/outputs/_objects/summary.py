"""How many objects of each class a run found, how many there are most likely, and how much ground was searched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.engine.packages.score_scale import ScoreScale
from geoml.grid.ellipsoid import area
from geoml.io.cards.map_card import MapCard
from geoml.io.tables.objects import Searched
from geoml.nn.objects.expected_count import Correction
from geoml.outputs._objects.levels import levels_of_sizes
from geoml.vector.boxes import Boxes

SHARES = 2**40
"""Whole parts of a confidence, so that sums do not hang on their order."""
SCHEMA = pa.schema(
    {
        "class": pa.uint8(),
        "name": pa.string(),
        "count": pa.int64(),
        "confidence": pa.float64(),
        "expected": pa.float64(),
        **dict.fromkeys(("expected_low", "expected_high"), pa.int64()),
        **dict.fromkeys(("searched_km2", "unsearched_km2", "least_m", "most_m"), pa.float64()),
        "pyramid": pa.list_(pa.int64()),
    }
)
"""Of a summary: a row for each class of the card."""


class Summary:
    """Numbers of objects by class, of candidates as they come."""

    def __init__(self, card: MapCard, scale: ScoreScale, factors: Sequence[int] = ()) -> None:
        self.card, self.scale, self.factors = card, scale, factors
        self.counts, self.shown = Counter[int](), Counter[int]()
        self.sums, self.squares = Counter[int](), Counter[int]()

    def add(self, boxes: Boxes, reported: NDArray[np.bool_]) -> None:
        """Take candidates with their ``confidence``, and which of them are reported."""
        value, sure = boxes["class"], boxes["confidence"].astype(np.float64)
        # whole numbers, so that the sums are the same in any order
        whole, square = (np.round(v * SHARES).astype(np.int64) for v in (sure, sure**2))
        for k in np.unique(value).tolist():
            mine = value == k
            self.sums[k] += int(whole[mine].sum())
            self.squares[k] += int(square[mine].sum())
            self.counts[k] += int((mine & reported).sum())
            self.shown[k] += int(whole[mine & reported].sum())

    def table(self, searched: Searched, region: BaseGeometry, pixels: int | None) -> pa.Table:
        """Rows of `SCHEMA`: class, name, count, confidence (mean of what is counted, null without objects), expected
        (how many there are most likely), expected_low and expected_high (95 %; all null where the card does not know),
        and for all alike searched_km2 and unsearched_km2: of ``region`` (degrees) with and without data, least_m and
        most_m: longer sides of what the model knows, null where its card does not say it, and pyramid: the factors.

        ``pixels`` of the region, where that is known: when all of them were searched, nothing is left.
        """
        km2 = searched.km2()
        left = 0.0 if searched.pixels == pixels else max(round(area(region) / 1e6 - km2, 6), 0.0)
        known = bool(self.card.detection and self.card.detection.sizes)
        levels = list(levels_of_sizes(self.card, self.factors).values())
        rows = [
            {
                "class": c.value,
                "name": c.name,
                "count": self.counts[c.value],
                "confidence": self._mean(c.value),
                **self._expected(c.value),
                "searched_km2": km2,
                "unsearched_km2": left,
                "least_m": levels[0].smallest if known else None,
                "most_m": levels[-1].largest if known else None,
                "pyramid": list(self.factors),
            }
            for c in self.card.classes
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _mean(self, value: int) -> float | None:
        count = self.counts[value]
        return self.shown[value] / (count * SHARES) if count else None

    def _expected(self, value: int) -> dict[str, float | int | None]:
        record = self.scale.records.get(value)
        correction = Correction.of(record.squares if record else ())
        if (ratio := correction.ratio) is None:
            return {}
        total = self.sums[value] / SHARES
        low, high = correction.interval(total, self.squares[value] / SHARES) or (None, None)
        return {"expected": round(ratio * total, 3), "expected_low": low, "expected_high": high}
