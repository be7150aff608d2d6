"""The homography between two pictures of the same ground from matched points, of which most may be wrong.

By MAGSAC++ (Barath et al. 2020, https://arxiv.org/abs/1912.05909) of OpenCV, the extra ``geolocate``; deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.cube.keypoints import Keypoints, match
from geoml.cube.resize import opencv
from geoml.grid.homography import FLAT, Matrix, Points, apply, fixed, problem

NEEDED = 4
"""Points that fix a homography."""
TRIES = 5000
CONFIDENCE = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class RobustFit:
    """``matrix`` (3, 3) takes ``source`` (N, 2) to ``target`` (N, 2): the inliers, at different places, for several
    keypoints may lie on one."""

    matrix: Matrix
    source: Points
    target: Points

    @property
    def count(self) -> int:
        """The number of inliers."""
        return len(self.source)


def fit(source: NDArray[np.floating], target: NDArray[np.floating], *, within: float = 3.0) -> RobustFit | None:
    """The homography that most matches (N, 2) to (N, 2) agree with, within ``within`` target units.

    None if there is none, or where those that agree do not fix it, such as points on one line. Raises MissingExtra.
    """
    cv2 = opencv()
    if len(source) <= NEEDED:
        return None
    a, b = np.ascontiguousarray(source, np.float64), np.ascontiguousarray(target, np.float64)
    try:
        estimate, _ = cv2.findHomography(a, b, cv2.USAC_MAGSAC, within, maxIters=TRIES, confidence=CONFIDENCE)
    except cv2.error:  # degenerate points, such as all on one line
        return None
    if estimate is None or not np.isfinite(estimate).all() or abs(estimate[2, 2]) < 1e-12:
        return None
    matrix = np.asarray(estimate, np.float64) / estimate[2, 2]
    near = np.hypot(*(apply(matrix, a) - b).T) <= within
    # of points nearly on one line OpenCV gives any of the maps that agree with it
    if near.sum() <= NEEDED or not fixed(matrix, a[near]) or not _wide(b[near]):
        return None
    inliers = _distinct(a, b, near)
    return RobustFit(matrix, a[inliers], b[inliers])


def view(first: Keypoints, second: Keypoints, shape: tuple[int, int], *, within: float) -> RobustFit | None:
    """The homography between the matched keypoints of two pictures, the first of ``shape`` (rows, columns); None where
    it is not a plausible view of flat ground."""
    pairs = match(first, second)
    fitted = fit(first.xy[pairs[:, 0]], second.xy[pairs[:, 1]], within=within)
    return None if fitted is None or problem(fitted.matrix, shape) else fitted


def _wide(points: NDArray[np.float64]) -> bool:
    """Whether points (N, 2) lie on more than one line: a map onto a line has no inverse."""
    long, short = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(short > FLAT * long)


def _distinct(source: NDArray[np.float64], target: NDArray[np.float64], near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each place counts once, on either side: a keypoint with two headings is no second witness."""
    out = np.zeros_like(near)
    taken: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for k in np.flatnonzero(near):
        cells = [(round(float(p[0])), round(float(p[1]))) for p in (source[k], target[k])]
        if cells[0] not in taken[0] and cells[1] not in taken[1]:
            out[k] = True
            taken[0].add(cells[0])
            taken[1].add(cells[1])
    return out
