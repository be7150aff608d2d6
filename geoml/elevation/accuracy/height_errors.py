"""Statistics of height errors: mean, median, RMSE, NMAD, and quantiles of their size, with intervals.

Errors of heights are not normal, so LE68, LE90 and LE95 are quantiles and not multiples of a deviation, and NMAD stands
beside the RMSE (Höhle and Höhle 2009, https://doi.org/10.1016/j.isprsjprs.2009.02.003). Neighbours err alike: intervals
are from drawing whole squares again (block bootstrap), and there is none from a single square.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NMAD: Final = 1.4826
SQUARE: Final = 50.0
"""Metres of a side of the squares that are drawn again."""
DRAWS: Final = 500
MOST: Final = 10_000
"""Errors that are drawn from, evenly out of all; squares decide the width of an interval, not their errors."""
COVERED: Final = (0.025, 0.975)
LEVELS: Final = {"le68": 0.68, "le90": 0.90, "le95": 0.95}


def nmad(errors: Floats) -> float:
    """Normalised median absolute deviation of errors (n,), n > 0."""
    return float(NMAD * np.median(np.abs(errors - np.median(errors))))


def squares(x: Floats, y: Floats, side: float = SQUARE) -> Ints:
    """(n,) the square of each place, numbered from 0; squares lie on the lattice of the CRS."""
    where = np.stack([np.floor(x / side), np.floor(y / side)], axis=1)
    numbers: Ints = np.unique(where, axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def summary(errors: Floats, square: Ints) -> dict[str, Any]:
    """``n``, and unless that is 0 the numbers above, in the unit of ``errors`` (n,), as plain data.

    ``intervals`` has the central 95 % of ``rmse``, ``nmad`` and ``le90`` over draws of ``square`` (n,), where there are
    at least two of them.
    """
    if not len(errors):
        return {"n": 0}
    out: dict[str, Any] = {
        "n": len(errors),
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "nmad": nmad(errors),
    }
    out |= {name: float(np.quantile(np.abs(errors), level)) for name, level in LEVELS.items()}
    if (drawn := _drawn(errors, square)) is not None:
        out["intervals"] = drawn
    return out


def _drawn(errors: Floats, square: Ints) -> dict[str, list[float]] | None:
    every = -(-len(errors) // MOST)
    errors, square = errors[::every], square[::every]
    count = int(square.max()) + 1
    if len(np.unique(square)) < 2:
        return None
    rng = np.random.default_rng(0)
    by_value, by_size = np.argsort(errors), np.argsort(np.abs(errors))
    found: dict[str, list[float]] = {"rmse": [], "nmad": [], "le90": []}
    for _ in range(DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)[square]
        if not times.any():
            continue
        found["rmse"].append(float(np.sqrt(np.sum(times * errors**2) / times.sum())))
        found["le90"].append(_quantile(np.abs(errors)[by_size], times[by_size], 0.9))
        off = np.abs(errors - _quantile(errors[by_value], times[by_value], 0.5))
        order = np.argsort(off)
        found["nmad"].append(NMAD * _quantile(off[order], times[order], 0.5))
    return {name: [float(v) for v in np.quantile(values, COVERED)] for name, values in found.items()}


def _quantile(values: Floats, times: Ints, level: float) -> float:
    """Of ascending values, each so many times."""
    total = np.cumsum(times)
    return float(values[np.searchsorted(total, level * total[-1])])
