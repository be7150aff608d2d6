"""The map between two pictures of the same ground from matched points, of which most may be wrong.

Homographies by MAGSAC++ (Barath et al. 2020, https://arxiv.org/abs/1912.05909), similarities by RANSAC, both of
OpenCV, the extra ``geolocate``. Both are deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.geolocation.matching.homography import FLAT, Matrix, apply, fixed
from geoml.geolocation.pictures.resize import opencv

Kind = Literal["homography", "similarity"]

NEEDED = {"homography": 4, "similarity": 2}
TRIES = 5000
SURE = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class RobustFit:
    """``matrix`` (3, 3) takes source points to target points; ``inliers`` (N,) True where they agree with it."""

    matrix: Matrix
    inliers: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """Inliers at different places: several keypoints may lie on one."""
        return int(self.inliers.sum())


def fit(
    source: NDArray[np.floating], target: NDArray[np.floating], kind: Kind = "homography", *, within: float = 3.0
) -> RobustFit | None:
    """The map that most matches (N, 2) to (N, 2) agree with, within ``within`` target units; None where none is found,
    or where those that agree do not fix it, such as points on one line for a homography.

    Raises InputError for an unknown kind or shapes that differ, MissingExtra.
    """
    if kind not in NEEDED:
        raise InputError(f"kind: {kind!r}; expected homography or similarity")
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise InputError(f"source, target: shapes {source.shape}, {target.shape}; expected (N, 2) twice")
    cv2 = opencv()
    if len(source) < NEEDED[kind] + 1:
        return None
    a, b = np.ascontiguousarray(source, np.float64), np.ascontiguousarray(target, np.float64)
    try:
        if kind == "homography":
            found, _ = cv2.findHomography(a, b, cv2.USAC_MAGSAC, within, maxIters=TRIES, confidence=SURE)
        else:
            options = {"ransacReprojThreshold": within, "maxIters": TRIES, "confidence": SURE}
            found, _ = cv2.estimateAffinePartial2D(a, b, method=cv2.RANSAC, **options)
            found = None if found is None else np.vstack([found, (0, 0, 1)])
    except cv2.error:  # degenerate points, such as all on one line
        return None
    if found is None or not np.isfinite(found).all() or abs(found[2, 2]) < 1e-12:
        return None
    matrix = np.asarray(found, np.float64) / found[2, 2]
    near = np.hypot(*(apply(matrix, a) - b).T) <= within
    if near.sum() <= NEEDED[kind]:
        return None
    # OpenCV gives None for points on one line with RANSAC and USAC, a matrix of rank one without, and for points nearly
    # on one line any of the maps that agree with it
    known = kind == "similarity" or (fixed(matrix, a[near]) and _wide(b[near]))
    return RobustFit(matrix, _distinct(a, b, near)) if known else None


def _wide(points: NDArray[np.float64]) -> bool:
    """Whether points (N, 2) lie on more than one line: a map onto a line has no inverse."""
    long, short = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return bool(short > FLAT * long)


def _distinct(source: NDArray[np.float64], target: NDArray[np.float64], near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each place counts once, on either side: a keypoint with two headings is no second witness."""
    out = np.zeros_like(near)
    seen: tuple[set[tuple[int, int]], set[tuple[int, int]]] = (set(), set())
    for k in np.flatnonzero(near):
        cells = [(round(float(p[0])), round(float(p[1]))) for p in (source[k], target[k])]
        if cells[0] not in seen[0] and cells[1] not in seen[1]:
            out[k] = True
            seen[0].add(cells[0])
            seen[1].add(cells[1])
    return out
