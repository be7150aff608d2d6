"""Scores of forecast fields such as rain: how well what passes a threshold lies where it was seen. NaN is not known.

What is not known of the forecast or of the truth is masked in both. An *event* is a value of at least the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from numpy.typing import NDArray


def contingency(
    forecast: Float[ndarray, "*shape"], truth: Float[ndarray, "*shape"], threshold: float
) -> tuple[int, int, int]:
    """Hits, misses and false alarms, which add up over fields."""
    known = np.isfinite(forecast) & np.isfinite(truth)
    said, seen = (forecast >= threshold) & known, (truth >= threshold) & known
    hits = int((said & seen).sum())
    return hits, int(seen.sum()) - hits, int(said.sum()) - hits


def csi(hits: int, misses: int, false_alarms: int) -> float | None:
    """Critical success index, the share of hits in all that was said or seen; None without an event.

    J. T. Schaefer (1990), https://doi.org/10.1175/1520-0434(1990)005<0570:TCSIAA>2.0.CO;2.
    """
    total = hits + misses + false_alarms
    return hits / total if total else None


def fractions(
    forecast: Float[ndarray, "y x"], truth: Float[ndarray, "y x"], threshold: float, side: int
) -> tuple[float, float]:
    """Sum of squares of the difference of the fractions of events in squares of ``side`` pixels, and the most that it
    could be: both add up over fields. Squares lie inside of the field and have something known."""
    known = np.isfinite(forecast) & np.isfinite(truth)
    count = _in_squares(known, side)
    some = count > 0
    one, two = (
        np.divide(_in_squares((v >= threshold) & known, side), count, where=some, out=np.zeros(count.shape))
        for v in (forecast, truth)
    )
    return float(((one - two) ** 2).sum()), float((one**2).sum() + (two**2).sum())


def fss(different: float, most: float) -> float | None:
    """Fractions skill score of what `fractions` gives; None if neither has an event: that is not a perfect forecast.

    N. M. Roberts and H. W. Lean (2008), https://doi.org/10.1175/2007MWR2123.1.
    """
    return 1 - different / most if most else None


def _in_squares(mask: Bool[ndarray, "y x"], side: int) -> Int[ndarray, "rows columns"]:
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    found: NDArray[np.int64] = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return found


class FieldScores:
    """Sums of scores of fields at one lead. ``levels`` are those of the quantiles, ``sides`` squares in pixels.

    Where the truth or the upper quantile is at least ``faint`` there is *something to say*: coverage is told of it too,
    since of rain most of a field is dry.
    """

    def __init__(
        self, levels: Sequence[float], thresholds: Sequence[float] = (), sides: Sequence[int] = (), faint: float = 0.0
    ) -> None:
        self.levels, self.thresholds, self.sides, self.faint = tuple(levels), tuple(thresholds), tuple(sides), faint
        self.middle = len(self.levels) // 2
        self.pixels = self.unsaid = self.wet = 0
        self.absolute = self.square = self.error = self.loss = 0.0
        self.inside = np.zeros((2, self.middle), np.int64)
        self.exceeded = np.zeros(len(self.levels))
        self.events = np.zeros((len(self.thresholds), 3), np.int64)
        self.squares = np.zeros((len(self.thresholds), len(self.sides), 2))

    def update(self, quantiles: Float[ndarray, "level y x"], truth: Float[ndarray, "y x"]) -> None:
        """Count a field, in the unit."""
        median = quantiles[self.middle]
        known = np.isfinite(truth) & np.isfinite(median)
        self.pixels += int(known.sum())
        self.unsaid += int((np.isfinite(truth) & ~np.isfinite(median)).sum())
        q, y = quantiles[:, known].astype(np.float64), truth[known].astype(np.float64)
        error = y - q[self.middle]
        self.error -= float(error.sum())
        self.absolute += float(np.abs(error).sum())
        self.square += float((error**2).sum())
        at = np.array(self.levels)[:, None]
        off = y - q
        self.loss += float(np.maximum(at * off, (at - 1) * off).mean(0).sum() * 2)
        # a truth on a quantile, as dry ground is, counts half to either side
        self.exceeded += ((q < y).sum(1) + (q <= y).sum(1)) / 2
        something = (y >= self.faint) | (q[-1] >= self.faint)
        self.wet += int(something.sum())
        for n, part in enumerate((np.ones_like(something), something)):
            for k in range(self.middle):
                self.inside[n, k] += int(((q[k] <= y) & (y <= q[-1 - k]) & part).sum())
        for n, threshold in enumerate(self.thresholds):
            self.events[n] += contingency(median, truth, threshold)
            for m, side in enumerate(self.sides):
                self.squares[n, m] += fractions(median, truth, threshold, side)

    def compute(self) -> dict[str, Any]:
        """``mae``, ``rmse``, ``bias``, ``crps`` (twice the mean pinball loss of the levels), ``csi`` by threshold,
        ``fss`` by threshold and square, ``unsaid`` (the share of the truth that nothing was said of), ``pit`` as
        `geoml.nn.forecast.scores.pit`, and ``coverage`` of the intervals by percent, over all and where there is
        something to say. None without truth."""
        n = self.pixels
        total = n + self.unsaid
        names = ("mae", "rmse", "bias", "crps")
        means: Mapping[str, float | None] = (
            dict(zip(names, (self.absolute / n, (self.square / n) ** 0.5, self.error / n, self.loss / n), strict=True))
            if n
            else dict.fromkeys(names)
        )
        return {
            "n": n,
            "unsaid": self.unsaid / total if total else None,
            **means,
            "csi": {f"{t:g}": csi(*map(int, e)) for t, e in zip(self.thresholds, self.events, strict=True)},
            "fss": {
                f"{t:g}": {str(s): fss(*map(float, v)) for s, v in zip(self.sides, row, strict=True)}
                for t, row in zip(self.thresholds, self.squares, strict=True)
            },
            "pit": (-np.diff([1.0, *(self.exceeded / n), 0.0])).tolist() if n else [],
            "coverage": self._coverage(0, n),
            "coverage_wet": self._coverage(1, self.wet),
        }

    def _coverage(self, part: int, n: int) -> dict[str, float]:
        """Share between both ends, these included, by the share that should be."""
        if not n:
            return {}
        each = enumerate(self.inside[part])
        return {str(round(100 * (self.levels[-1 - k] - self.levels[k]))): int(count) / n for k, count in each}
