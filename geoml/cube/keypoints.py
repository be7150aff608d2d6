"""Keypoints of a picture and which of them show the same thing: SIFT, RootSIFT, ratio test, mutual check.

SIFT: Lowe 2004 (https://doi.org/10.1023/B:VISI.0000029664.99615.94), by OpenCV, the extra ``geolocate``. RootSIFT:
Arandjelovic and Zisserman 2012 (https://doi.org/10.1109/CVPR.2012.6248018): the root of the L1-normalised histogram,
whose Euclidean distance is the Hellinger distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.cube.resize import opencv
from geoml.errors import InputError

MOST = 2000
CONTRAST = 0.02
"""SIFT's threshold; half of the usual one, since fields have little contrast and the strongest are kept anyway."""
RATIO = 0.85
UNIT = 512
"""What a descriptor of length one is multiplied by to fit into bytes."""
CHUNK = 4096
"""Descriptors compared at once: bounds the memory of a search."""


@dataclass(frozen=True, slots=True, eq=False)
class Keypoints:
    """N keypoints: ``points`` (N, 4) float32 as x, y, size in pixels (corner of the picture at 0, 0) and angle in
    radians; ``descriptors`` (N, 128) uint8, RootSIFT times ``UNIT``; strongest first.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def none(cls) -> Keypoints:
        """No keypoints."""
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, 128), np.uint8))

    @property
    def xy(self) -> NDArray[np.float32]:
        """(N, 2) places."""
        return self.points[:, :2]

    def take(self, which: NDArray[np.integer] | NDArray[np.bool_] | slice) -> Keypoints:
        """The keypoints at these indexes, or where True."""
        return Keypoints(self.points[which], self.descriptors[which])


def mirrored(keypoints: Keypoints, width: int) -> Keypoints:
    """The keypoints of the mirror image (left and right exchanged), computed from those of the picture.

    A descriptor is 4 rows by 4 columns of 8 directions, along the keypoint's own angle: rows change places, and
    directions turn round.
    """
    points = keypoints.points.copy()
    points[:, 0] = width - points[:, 0]
    points[:, 3] = math.pi - points[:, 3]
    turned = keypoints.descriptors.reshape(-1, 4, 4, 8)[:, ::-1, :, -np.arange(8) % 8]
    return Keypoints(points, np.ascontiguousarray(turned.reshape(-1, 128)))


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8 of (H, W) or (H, W, 3) RGB uint8. Raises InputError for other arrays."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(f"image: {image.shape} {image.dtype}; expected (H, W) or (H, W, 3) uint8")
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.asarray(np.rint(luma), np.uint8)


def detect(image: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None, *, most: int = MOST) -> Keypoints:
    """At most ``most`` keypoints of a picture (H, W) or (H, W, 3) uint8, the strongest.

    None of them touches what is not ``valid`` (H, W). Raises InputError for another array, MissingExtra.
    """
    cv2 = opencv()
    picture = grey(image)
    if min(picture.shape) < 8:
        return Keypoints.none()
    mask = None if valid is None or valid.all() else cv2.erode(valid.view(np.uint8), np.ones((9, 9), np.uint8))
    sift = cv2.SIFT_create(contrastThreshold=CONTRAST, enable_precise_upscale=True)  # else off by a quarter of a pixel
    raw, described = sift.detectAndCompute(picture, mask)
    if not raw:
        return Keypoints.none()
    points = np.array([(*p.pt, p.size, math.radians(p.angle)) for p in raw], np.float32)
    points[:, :2] += 0.5  # OpenCV counts from the middle of the first pixel
    strength = np.array([p.response for p in raw])
    order = np.lexsort((points[:, 0], points[:, 1], -strength))[:most]
    return Keypoints(points[order], _root(described[order]))


def _root(sift: NDArray[np.float32]) -> NDArray[np.uint8]:
    total = np.maximum(np.abs(sift).sum(1, keepdims=True), 1e-9)
    return np.asarray(np.clip(np.rint(UNIT * np.sqrt(np.abs(sift) / total)), 0, 255), np.uint8)


def match(first: Keypoints, second: Keypoints) -> NDArray[np.int64]:
    """(M, 2) indexes of pairs: the nearest in ``second`` is nearer than ``RATIO`` times the next nearest and has the
    first as its own nearest."""
    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.int64)
    a, b = (k.descriptors.astype(np.float32) for k in (first, second))
    apart = a @ b.T
    apart *= -2
    apart += (b**2).sum(1)
    apart += (a**2).sum(1)[:, None]
    back = apart.argmin(0)
    rows = np.arange(len(a))
    near = apart.argmin(1)
    lowest = apart[rows, near].copy()
    apart[rows, near] = np.inf
    good = (lowest < RATIO**2 * apart.min(1)) & (back[near] == rows)
    return np.column_stack([rows[good], near[good]]).astype(np.int64)


def nearest(
    query: NDArray[np.uint8], gallery: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """((Q, count) indexes, (Q, count) distances) of the nearest descriptors of the gallery, nearest first.

    Exact. The gallery may be a memory map: it is walked in pieces. ``count`` is at most its length.
    """
    q = query.astype(np.float32)
    own = (q**2).sum(1)
    best = np.full((len(q), count), np.inf, np.float32)
    which = np.zeros((len(q), count), np.int64)
    for start in range(0, len(gallery), CHUNK):
        piece = gallery[start : start + CHUNK].astype(np.float32)
        apart = (piece**2).sum(1) - 2 * (q @ piece.T)
        keep = min(count, len(piece))
        every = np.broadcast_to(np.arange(keep), (len(q), keep))
        part = np.argpartition(apart, keep - 1, axis=1)[:, :keep] if keep < len(piece) else every
        values = np.concatenate([best, np.take_along_axis(apart, part, 1)], 1)
        names = np.concatenate([which, part + start], 1)
        order = np.argsort(values, axis=1, kind="stable")[:, :count]
        best, which = np.take_along_axis(values, order, 1), np.take_along_axis(names, order, 1)
    return which, np.sqrt(np.maximum(best + own[:, None], 0)) / np.float32(UNIT)
