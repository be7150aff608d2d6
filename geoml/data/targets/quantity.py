"""A quantity: (y, x) float32 in its unit, NaN where nothing is known; float32 in a batch too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geoml.data.target import LISTED, Labels, PixelTarget
from geoml.errors import DataError, InputError
from geoml.texts import listed

if TYPE_CHECKING:
    from geoml.data.labels import VectorLabels

MOST = 32_767
"""Steps above or below zero that are counted; what lies beyond counts as the last."""


@dataclass(frozen=True)
class QuantityTarget(PixelTarget):
    """Values that are told apart by ``step``, in the unit of the quantity."""

    step: float

    dtype: ClassVar = np.float32
    learnt: ClassVar = np.float32
    unknown: ClassVar = float("nan")

    def label(self, field: str, value: float) -> float:
        """Every number is a value."""
        return float(value)

    def of_raster(
        self,
        values: NDArray[np.number],
        known: NDArray[np.bool_],
        where: str,
        mapped: Mapping[int, int],
        ignore: Sequence[int],
    ) -> Labels:
        found = np.where(known & ~np.isin(values, ignore), values, np.nan).astype(np.float32)
        for given, meant in mapped.items():
            found[values == given] = meant
        return found

    def of_properties(self, spec: VectorLabels, column: Sequence[Any] | None, count: int) -> list[float]:
        """The number in the property; a feature without one is not known."""
        if column is None:
            return [float(spec.value)] * count
        out, strange = [], []
        for raw in column:
            try:
                out.append(float("nan") if raw is None or raw == "" else float(raw))
            except (TypeError, ValueError):
                strange.append(repr(raw))
        if strange:
            what = listed(sorted(set(strange)), most=LISTED)
            raise InputError(f"labels {spec.name}: {what} in {spec.field!r} of {spec.file}: expected numbers")
        return out

    def unexplained(self, values: Mapping[object, str]) -> DataError:
        return DataError(f"labels: {listed(map(repr, values), most=LISTED)} are not numbers")

    def known(self, target: Labels) -> NDArray[np.bool_]:
        return np.isfinite(target)

    def places(self, target: Labels) -> Mapping[int, NDArray[np.int64]]:
        """By the power of two of the value, in steps."""
        known = np.isfinite(target)
        power = np.zeros(target.shape, np.int64)
        power[known] = np.log2(1 + np.abs(target[known]) / self.step).astype(np.int64) * np.sign(target[known])
        return {int(k): np.argwhere(known & (power == k)) for k in np.unique(power[known])}

    def counted(self, target: Labels) -> NDArray[np.int64]:
        """(2 * MOST + 1,) pixels of each value in steps, from ``-MOST`` up; see `summary`."""
        steps = np.rint(target[np.isfinite(target)].astype(np.float64) / self.step)
        return np.bincount(np.clip(steps, -MOST, MOST).astype(np.int64) + MOST, minlength=2 * MOST + 1)

    def summary(self, counted: NDArray[np.int64]) -> dict[str, float]:
        """Pixels, mean, standard deviation, median, and ends of what `counted` gave. Raises InputError for none."""
        pixels = int(counted.sum())
        if not pixels:
            raise InputError("source: not a single pixel has a value")
        values = (np.arange(len(counted)) - MOST) * self.step
        there = np.flatnonzero(counted)
        if there[0] == 0 or there[-1] == len(counted) - 1:
            raise InputError(f"step: {self.step}; expected a larger one, for values up to {abs(values[0]):g} fit only")
        mean = float(counted @ values / pixels)
        return {
            "pixels": pixels,
            "mean": mean,
            "std": float(np.sqrt(counted @ (values - mean) ** 2 / pixels)),
            "median": float(values[np.searchsorted(np.cumsum(counted), pixels / 2)]),
            "minimum": float(values[there[0]]),
            "maximum": float(values[there[-1]]),
        }
