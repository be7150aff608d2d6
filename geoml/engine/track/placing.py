"""Where a frame lies in the first one, by keypoints of what does not move.

What was found in a frame may move, so it has no keypoints. Frames are matched with an anchor, at first the first frame;
where they share little with it any more, the frame before becomes the anchor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from geoml.cube.homography_fit import view
from geoml.cube.keypoints import MOST, Keypoints, detect
from geoml.cube.preview import contrast, stretch, stretched
from geoml.cube.resize import reduced
from geoml.engine.stream.frames import Frame
from geoml.grid.homography import Matrix

SIDE = 1280
"""Pixels of a frame's longer side when it is matched."""
WITHIN = 2.0
"""Of these pixels, of agreement between frames."""
ENOUGH = 20
"""Inliers from which two frames count as matched, as of pictures with positions."""
SHARED = 0.3
"""Share of an anchor's keypoints below which another one is taken."""
AROUND = 0.15
"""Of the size of a box: so much around it may move too."""

Locate = Callable[[NDArray[np.uint8]], "tuple[Matrix, str] | str"]
"""The map from pixels of a picture (H, W) or (H, W, 3) uint8 to x, y of a CRS, and its name; else why there is none."""


class Placer:
    """Takes frames in their order; ``again`` corrects the way of a new anchor where it can."""

    def __init__(self, again: Callable[[NDArray[np.uint8]], Matrix | None] | None = None) -> None:
        self._again = again
        self._anchor: tuple[Keypoints, Matrix] | None = None
        self._before: tuple[Keypoints, Matrix] | None = None

    def place(self, frame: Frame, boxes: NDArray[np.float64]) -> Matrix | None:
        """The map (3, 3) from pixels of the frame to those of the first one; None if it shares too little with any.

        ``boxes`` (n, 4): left, top, width, height of what may move, in pixels. Raises MissingExtra.
        """
        image = picture(frame)
        keypoints = keypoints_of(image, frame.valid, boxes)
        if self._anchor is None:
            self._anchor = self._before = (keypoints, np.eye(3))
            return np.eye(3)
        assert self._before is not None
        matrix, count = _onto(keypoints, self._anchor, frame.shape)
        if matrix is None or count < SHARED * len(self._anchor[0]):
            if self._before is not self._anchor:
                other, more = _onto(keypoints, self._before, frame.shape)
                if other is not None and more > count:
                    self._anchor, matrix = self._before, other
            if matrix is not None and self._again is not None:
                found = self._again(image)
                matrix = matrix if found is None else found
        if matrix is None:
            return None
        self._before = (keypoints, matrix)
        return matrix


def _onto(keypoints: Keypoints, other: tuple[Keypoints, Matrix], shape: tuple[int, int]) -> tuple[Matrix | None, int]:
    factor = max(1.0, max(shape) / SIDE)
    fitted = view(keypoints, other[0], shape, within=WITHIN * factor)
    if fitted is None or fitted.count < ENOUGH:
        return None, 0
    return other[1] @ fitted.matrix, fitted.count


def keypoints_of(image: NDArray[np.uint8], valid: NDArray[np.bool_], boxes: NDArray[np.float64]) -> Keypoints:
    """Keypoints of a picture (H, W) or (H, W, 3) in its own pixels, none of them in or near ``boxes`` (n, 4)."""
    small, factor = reduced(image, SIDE)
    height, width = small.shape[:2]
    rows = np.minimum((np.arange(height) * factor).astype(int), len(valid) - 1)
    columns = np.minimum((np.arange(width) * factor).astype(int), valid.shape[1] - 1)
    still = valid[np.ix_(rows, columns)].copy()
    edge = AROUND * np.sqrt(boxes[:, 2:].prod(1, keepdims=True))
    low = np.floor((boxes[:, :2] - edge) / factor).astype(int).clip(0)
    high = np.ceil((boxes[:, :2] + boxes[:, 2:] + edge) / factor).astype(int).clip(0)
    for (x0, y0), (x1, y1) in zip(low, high, strict=True):
        still[y0:y1, x0:x1] = False
    found = detect(contrast(small), still, most=MOST)
    points = found.points.copy()
    points[:, :3] *= factor
    return Keypoints(points, found.descriptors)


def picture(frame: Frame) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 of a frame: its first three bands, or the first."""
    data = frame.data[:3] if len(frame.data) >= 3 else frame.data[:1]
    image = np.moveaxis(data, 0, -1)
    if image.dtype != np.uint8:
        return stretched(image, frame.valid, stretch(data, frame.valid, ["grey"] * len(data)))
    return np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
