"""How far a terrain is from check points: all of them, by slope, and by how far measured ground is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoml.elevation.accuracy.check_points import CheckPoints
from geoml.elevation.accuracy.height_errors import squares, summary
from geoml.texts import percent

Floats = NDArray[np.float64]

SLOPES: Final = (0.0, 5.0, 15.0, 30.0, 90.0)
"""Degrees."""
DISTANCES: Final = (0.0, 0.5, 2.0, 5.0, 10.0, np.inf)
"""Metres."""
SHOWN: Final = ("n", "mean", "median", "rmse", "nmad", "le68", "le90", "le95")
HEAD: Final = ("", "points", "mean", "median", "RMSE", "NMAD", "LE68", "LE90", "LE95", "complete")


def assessed(points: CheckPoints, found: Mapping[str, Floats]) -> dict[str, Any]:
    """Plain data for ``accuracy.json``: what was found at points against their heights, found less measured, metres.

    ``found`` has (n,) ``dtm``, ``slope`` in degrees and ``distance`` to ground in metres, NaN where there is none.
    ``complete`` is the share of the points of a class at which the terrain has a value: a terrain with holes where it
    is hard must not win. ``table`` is what the report shows.
    """
    error = found["dtm"] - points.z
    square = squares(points.x, points.y)
    out: dict[str, Any] = {"unit": "m", "all": _of(error, square, np.ones(len(error), bool))}
    for key, edges, unit in (("slope", SLOPES, "°"), ("distance", DISTANCES, "m")):
        values = found[key]
        groups = {_named(low, high, unit): (values >= low) & (values < high) for low, high in pairwise(edges)}
        groups["not known"] = np.isnan(values)
        out[key] = {name: _of(error, square, chosen) for name, chosen in groups.items() if chosen.any()}
    out["notes"] = list(points.notes)
    return out | {"table": _table(out)}


def _of(error: Floats, square: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    known = chosen & np.isfinite(error)
    return {**summary(error[known], square[known]), "complete": float(known.sum() / max(chosen.sum(), 1))}


def _named(low: float, high: float, unit: str) -> str:
    return f"{low:g} to {high:g} {unit}" if np.isfinite(high) else f"from {low:g} {unit}"


def _table(out: Mapping[str, Any]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [list(HEAD), row("all", out["all"])]
    rows += [row(f"slope {name}", values) for name, values in out["slope"].items()]
    return rows + [row(f"ground at {name}", values) for name, values in out["distance"].items()]


def row(name: str, values: Mapping[str, Any]) -> list[str]:
    """Of the table under `HEAD`."""
    cells = [str(values["n"]), *(f"{values[k]:.3f} m" if k in values else "–" for k in SHOWN[1:])]
    return [name, *cells, percent(values["complete"])]
