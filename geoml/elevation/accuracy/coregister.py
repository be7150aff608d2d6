"""The shift between two surfaces of heights, from how their difference goes with slope and aspect.

Nuth and Kääb 2011, https://doi.org/10.5194/tc-5-271-2011: a surface that is displaced differs from another by
``a cos(b - aspect) tan(slope)`` and a constant. Medians over classes of aspect are fitted, the surface is moved, and so
on until the step is small.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from geoml.elevation.accuracy.height_errors import nmad
from geoml.errors import InputError

Floats = NDArray[np.float64]

ROUNDS: Final = 30
CLOSE: Final = 0.001
"""Pixels of a step that is the last."""
ASPECTS: Final = 72
FLAT: Final = 0.005
"""Metres of height a metre; flatter ground says nothing of a shift."""
LEAST: Final = 200
"""Sloping pixels that both know."""


@dataclass(frozen=True)
class Displacement:
    """What has to be added to the places and heights of the other surface to lay it on the reference, in metres."""

    east: float
    north: float
    up: float
    pixels: float
    """Length of the horizontal shift."""
    median_before: float
    nmad_before: float
    median_after: float
    nmad_after: float
    n: int
    """Pixels that were compared after the shift."""
    rounds: int

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def coregistered(reference: Floats, other: Floats, res: tuple[float, float]) -> Displacement:
    """The shift of ``other`` (y, x) against ``reference`` (y, x), metres on one grid, rows to the south, NaN unknown.

    ``res`` is the height and width of a pixel in metres. Raises InputError if the shapes differ, where they share
    too little sloping ground, and where the steps do not become small.
    """
    if reference.shape != other.shape or min(reference.shape) < 3:
        raise InputError(f"surfaces of {reference.shape} and {other.shape} pixels; expected two of one grid")
    rows_up, cols_up = np.gradient(reference)
    east, north = np.asarray(cols_up) / res[1], -np.asarray(rows_up) / res[0]
    rows = np.zeros(2)
    before = _known(other - reference)
    rounds, far = 0, np.inf
    while far >= CLOSE:
        if rounds == ROUNDS:
            raise InputError(f"surfaces: still {far:.2f} pixels apart after {ROUNDS} rounds; are they of one place?")
        step = _step(_moved(other, rows) - reference, east, north) / (res[1], res[0])
        rows += [-step[1], step[0]]
        rounds, far = rounds + 1, float(np.hypot(*step))
    after = _known(_moved(other, rows) - reference)
    up = -float(np.median(after))
    return Displacement(
        east=float(rows[1] * res[1]),
        north=float(-rows[0] * res[0]),
        up=up,
        pixels=float(np.hypot(*rows)),
        median_before=float(np.median(before)),
        nmad_before=nmad(before),
        median_after=float(np.median(after + up)),
        nmad_after=nmad(after),
        n=len(after),
        rounds=rounds,
    )


def _moved(z: Floats, pixels: Floats) -> Floats:
    """(y, x) the surface moved by rows and columns, linear between pixels, NaN where one of four is not known."""
    rows, cols = np.indices(z.shape, float)
    return np.asarray(map_coordinates(z, [rows - pixels[0], cols - pixels[1]], order=1, cval=np.nan))


def _step(difference: Floats, east: Floats, north: Floats) -> Floats:
    """(2,) metres to the east and north that ``other`` should move, of its difference and the reference's gradients."""
    slope = np.hypot(east, north)
    good = np.isfinite(difference) & np.isfinite(slope) & (slope > FLAT)
    if good.sum() < LEAST:
        raise InputError(f"surfaces share {int(good.sum())} pixels of sloping ground; expected {LEAST} or more")
    # moved by (dx, dy), a surface z becomes z - dx z_east - dy z_north
    aspect = np.arctan2(north[good], east[good])
    ratio = (difference[good] - np.median(difference[good])) / slope[good]
    place = np.floor((aspect + np.pi) / (2 * np.pi) * ASPECTS).astype(int) % ASPECTS
    order = np.argsort(place, kind="stable")
    parts = np.split(ratio[order], np.flatnonzero(np.diff(place[order])) + 1)
    angles = (np.unique(place) + 0.5) / ASPECTS * 2 * np.pi - np.pi
    waves = np.column_stack([np.cos(angles), np.sin(angles), np.ones(len(angles))])
    fitted = np.linalg.lstsq(waves, np.array([np.median(p) for p in parts]), rcond=None)[0]
    return np.asarray(fitted[:2])


def _known(difference: Floats) -> Floats:
    found = difference[np.isfinite(difference)]
    if not len(found):
        raise InputError("surfaces: no pixel is known in both")
    return found
