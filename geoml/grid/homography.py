"""Plane projective maps: applying, composing and judging them, and how well a fitted one knows a place.

A map is a (3, 3) float64 matrix on (x, y, 1); pixels have their corner at (0, 0) and y downwards. Any finite numbers
are valid input: what overflows or divides by zero is infinite or NaN and is not a view.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Points = NDArray[np.float64]

STRETCH = 4.0
"""Longest over shortest side of a footprint, relative to the picture's own, beyond which nobody flies."""
HORIZON = 1e-6
PARAMETERS = 8
FLAT = 1e-4
"""Least over largest singular value of the equations of a map, below which its points do not fix it: on one line, or on
one but for a point."""


@np.errstate(all="ignore")
def apply(matrix: Matrix, xy: NDArray[np.floating]) -> Points:
    """(N, 2) points through the map; infinite or NaN where a point lies on the horizon."""
    points = np.asarray(xy, np.float64)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    out: Points = moved[:, :2] / moved[:, 2:]
    return out


def corners(shape: tuple[int, int]) -> Points:
    """(4, 2) corners of a picture of ``shape`` (rows, columns): upper left, then clockwise as it is seen."""
    height, width = shape
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def middle(shape: tuple[int, int]) -> Points:
    """(1, 2) the centre of a picture of ``shape`` (rows, columns)."""
    return np.array([[shape[1] / 2, shape[0] / 2]])


def similarity(scale: float, angle: float, x: float, y: float) -> Matrix:
    """Scale, rotation by ``angle`` radians (x axis towards y axis) and shift."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, x], [s, c, y], [0, 0, 1]], np.float64)


@np.errstate(all="ignore")
def scale_at(matrix: Matrix, xy: NDArray[np.floating]) -> float:
    """Target units for each source unit at one place (2,): the root of the area's change there."""
    depth = matrix[2, :2] @ np.asarray(xy, np.float64) + matrix[2, 2]
    return float(np.sqrt(abs(np.linalg.det(matrix) / depth**3)))


@np.errstate(all="ignore")
def problem(
    matrix: Matrix,
    shape: tuple[int, int],
    *,
    scales: tuple[float, float] = (0.0, math.inf),
    mirrored: bool = False,
    stretch: float = STRETCH,
) -> str | None:
    """Why the map of a picture of ``shape`` (rows, columns) cannot be a view of flat ground; None if it can.

    Refused are maps that are not finite, fold the picture (a corner beyond the horizon), mirror it (with ``mirrored``:
    that do not, as where y points north), give a footprint that is not convex or has sides that differ by more than
    ``stretch``, or have a scale (target units a pixel) outside of ``scales`` anywhere in the picture.
    """
    if not np.isfinite(matrix).all():
        return "not finite"
    places = np.vstack([corners(shape), middle(shape)])
    depth = places @ matrix[2, :2] + matrix[2, 2]
    if depth.min() <= HORIZON * abs(depth).max() and depth.max() >= -HORIZON * abs(depth).max():
        return "folded: a corner lies beyond the horizon"
    outline = apply(matrix, places[:4])
    sides = np.roll(outline, -1, 0) - outline
    turn = sides[:, 0] * np.roll(sides, -1, 0)[:, 1] - sides[:, 1] * np.roll(sides, -1, 0)[:, 0]
    turn = -turn if mirrored else turn
    if not (turn > 0).all():
        return "mirrored or not convex"
    own = np.array([shape[1], shape[0], shape[1], shape[0]], float)
    length = np.hypot(*sides.T) / own
    if length.max() > stretch * length.min():
        return f"stretched {length.max() / length.min():.1f} to 1"
    local = np.array([scale_at(matrix, place) for place in places])
    if not (scales[0] <= local.min() and local.max() <= scales[1]):
        return f"scale {local[-1]:.4g} is outside of {scales[0]:.4g} to {scales[1]:.4g}"
    return None


@np.errstate(all="ignore")
def covariance(matrix: Matrix, source: NDArray[np.floating], target: NDArray[np.floating], at: Points) -> Matrix:
    """(2, 2) covariance, in squared target units, of where a map fitted by least squares puts ``at`` (1, 2).

    ``source`` and ``target`` (N, 2) are the points it was fitted to. First-order propagation: the variance of the
    residuals times the inverse normal matrix of the parameters (Hartley and Zisserman 2004, section 5.2.3). Points that
    do not fix the map give infinity.
    """
    points, goal = np.asarray(source, np.float64), np.asarray(target, np.float64)
    free = 2 * len(points) - PARAMETERS
    if free <= 0 or not fixed(matrix, points):
        return np.full((2, 2), math.inf)
    scaled, shift, size = _scaled(matrix, points)
    design = _jacobian(scaled, (points - shift) / size)
    residual = goal - apply(matrix, points)
    variance = float((residual**2).sum()) / free
    here = _jacobian(scaled, (np.asarray(at, np.float64) - shift) / size)
    return np.asarray(variance * here @ np.linalg.pinv(design.T @ design) @ here.T)


@np.errstate(all="ignore")
def fixed(matrix: Matrix, source: NDArray[np.floating]) -> bool:
    """Whether points (N, 2) are enough to fix a map and lie so that they do; a line of them does not."""
    points = np.asarray(source, np.float64)
    if not len(points):
        return False
    scaled, shift, size = _scaled(matrix, points)
    design = _jacobian(scaled, (points - shift) / size)
    if not np.isfinite(design).all() or len(design) < design.shape[1]:
        return False
    strength = np.linalg.svd(design / np.maximum(np.linalg.norm(design, axis=0), 1e-12), compute_uv=False)
    return bool(strength[-1] > FLAT * strength[0])


def _scaled(matrix: Matrix, points: Points) -> tuple[Matrix, NDArray[np.float64], float]:
    """The map of points that are centred and of size 1, their middle and their size."""
    shift = points.mean(0)
    size = max(float(np.abs(points - shift).max()), 1e-12)
    return matrix @ np.array([[size, 0, shift[0]], [0, size, shift[1]], [0, 0, 1]]), shift, size


def _jacobian(matrix: Matrix, xy: Points) -> NDArray[np.float64]:
    """Derivatives of the mapped points by the matrix entries but the last, which fixes the scale."""
    full = np.column_stack([xy, np.ones(len(xy))])
    depth = full @ matrix[2]
    u, v = apply(matrix, xy).T
    zero = np.zeros_like(full)
    first = np.column_stack([full, zero, -u[:, None] * full[:, :2]])
    second = np.column_stack([zero, full, -v[:, None] * full[:, :2]])
    return np.asarray((np.stack([first, second], 1) / depth[:, None, None]).reshape(-1, 8))
