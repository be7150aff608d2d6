"""Areas of the classes of a map, with confidence intervals, from a stratified random sample of checked places.

Counting the pixels of a map gives a biased area: what the map wrongly calls changed and what it misses do not cancel.
The sample says how wrong it is. Olofsson et al. 2014, https://doi.org/10.1016/j.rse.2014.02.015, whose equations are
named below. Strata are the classes of the map, places within a stratum are drawn with equal chances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError
from geoml.texts import listed

Z95 = 1.959963984540054
"""Standard errors on either side of a 95 % interval."""


@dataclass(frozen=True)
class AreaEstimate:
    """Estimates (K,) float64 by class and their standard errors; areas in the unit of the mapped areas.

    ``user`` is the share of a mapped class that is right (precision), ``producer`` the share of a true class that is
    mapped (recall). NaN where the sample says nothing: the recall of a class that was never seen.
    """

    area: NDArray[np.float64]
    area_error: NDArray[np.float64]
    user: NDArray[np.float64]
    user_error: NDArray[np.float64]
    producer: NDArray[np.float64]
    producer_error: NDArray[np.float64]
    overall: float
    overall_error: float

    def interval(self) -> NDArray[np.float64]:
        """(K, 2) float64: 95 % confidence interval of the areas; not below zero."""
        half = Z95 * self.area_error
        return np.stack([np.maximum(self.area - half, 0), self.area + half], 1)

    def as_json(self, names: Sequence[str]) -> dict[str, object]:
        """Plain JSON values by class name, None if there is no estimate."""
        rows = {
            name: {
                "area": float(self.area[k]),
                "area_se": float(self.area_error[k]),
                "area_95": self.interval()[k].tolist(),
                "user": _plain(self.user[k]),
                "user_se": _plain(self.user_error[k]),
                "producer": _plain(self.producer[k]),
                "producer_se": _plain(self.producer_error[k]),
            }
            for k, name in enumerate(names)
        }
        return {"classes": rows, "overall": self.overall, "overall_se": self.overall_error}


def estimate(counts: ArrayLike, mapped: ArrayLike, names: Sequence[str] = ()) -> AreaEstimate:
    """Areas from ``counts`` (K, K) of checked places, rows by mapped and columns by true class, and ``mapped`` (K,).

    ``mapped`` is the area of each class in the map, in any unit; ``names`` are
    those of the classes in messages. `geoml.nn.metrics` has confusions the other way
    round, and counts every labelled pixel, which is not a random sample. Raises InputError for other shapes, negative
    numbers and for a mapped class with fewer than two checked places, whose error cannot be estimated.
    """
    n, area = np.asarray(counts, np.float64), np.asarray(mapped, np.float64)
    if n.ndim != 2 or n.shape[0] != n.shape[1] or area.shape != n.shape[:1]:
        raise InputError(f"counts, mapped: shapes {n.shape} and {area.shape}; expected (K, K) and (K,)")
    if (n < 0).any() or (area < 0).any() or not area.sum() > 0:
        raise InputError("counts, mapped: expected numbers from zero up, and some area")
    checked = n.sum(1)
    if (few := np.flatnonzero((area > 0) & (checked < 2))).size:
        said = listed(f"{names[k] if names else k} has {int(checked[k])}" for k in few.tolist())
        raise InputError(f"counts: {len(few)} of {len(n)} mapped classes have fewer than two checked places: {said}")
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = area / area.sum()
        share = np.where(area[:, None] > 0, n / checked[:, None], 0.0)
        # Eq. 9 and 10
        proportion = weight @ share
        variance = weight[:, None] ** 2 * share * (1 - share) / (checked[:, None] - 1)
        error = np.sqrt(np.where(area[:, None] > 0, variance, 0.0).sum(0))
        # Eq. 2 and 6
        user = np.where(area > 0, np.diag(share), np.nan)
        user_error = np.sqrt(user * (1 - user) / (checked - 1))
        # Eq. 3 and 7
        producer = weight * np.diag(share) / proportion
        producer_error = np.sqrt(_producer_variance(area, checked, share, producer))
        # Eq. 1 and 5
        overall = float(np.nansum(weight * user))
        overall_error = float(np.sqrt(np.nansum(weight**2 * user_error**2)))
    total = area.sum()
    return AreaEstimate(
        proportion * total, error * total, user, user_error, producer, producer_error, overall, overall_error
    )


def _producer_variance(
    area: NDArray[np.float64],
    checked: NDArray[np.float64],
    share: NDArray[np.float64],
    producer: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Eq. 7, for every class j: its own stratum and all the others that hold it."""
    own = np.diag(share)
    true_area = area @ share
    variance = np.where(area[:, None] > 0, area[:, None] ** 2 * share * (1 - share) / (checked[:, None] - 1), 0.0)
    others = variance.sum(0) - np.diag(variance)
    mine = np.where(area > 0, area**2 * (1 - producer) ** 2 * own * (1 - own) / (checked - 1), 0.0)
    out: NDArray[np.float64] = (mine + producer**2 * others) / true_area**2
    return out


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
