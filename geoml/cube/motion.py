"""Motion from step to step, and the frame moved on by it: advection of rain or cloud.

Motion is fitted once on whole frames: dense optical flow (DIS, Kroeger et al. 2016, https://arxiv.org/abs/1603.03590,
by OpenCV) between neighbouring steps, averaged where there is something to see and spread smoothly from there. A frame
moves along it by backward semi-Lagrangian steps (Staniforth and Cote 1991; Germann and Zawadzki 2002,
https://doi.org/10.1175/1520-0493(2002)130<2859:SDOTPO>2.0.CO;2), every pixel by itself, so that the answer is the same
for any window.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoml.cube.resize import opencv
from geoml.errors import NothingFound
from geoml.grid.plane import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

SPREAD = 8.0
"""Pixels over which motion is smoothed, the deviation of a Gaussian."""
LEVELS = 40.0
"""Brightness for each doubling of what is above ``faint``."""
EVERY = 8
"""Pixels between the nodes of a motion; paths are followed from nodes of the plane as far apart."""
LEAST = 1e-3
"""Weight of the mean motion, which holds far from all that is seen."""


@dataclass(frozen=True, eq=False)
class MotionField:
    """Velocity on nodes that lie ``every`` pixels apart.

    ``velocity`` is (2, y, x) float64, pixels in y and x for one step; the first node is at the middle of pixel
    (``y0``, ``x0``) of the plane. Beyond the nodes the nearest one holds.
    """

    velocity: NDArray[np.float64]
    y0: int
    x0: int
    every: int

    @property
    def fastest(self) -> float:
        """Pixels in a step, along one axis."""
        return float(np.abs(self.velocity).max(initial=0.0))

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(2, …) velocity at pixels of the plane, bilinear between nodes."""
        _, rows, columns = self.velocity.shape
        v, u = (np.clip((p - o) / self.every, 0, n - 1) for p, o, n in ((y, self.y0, rows), (x, self.x0, columns)))
        i, j = np.minimum(v.astype(np.intp), max(rows - 2, 0)), np.minimum(u.astype(np.intp), max(columns - 2, 0))
        fv, fu, down, right = v - i, u - j, np.intp(min(rows - 1, 1)), np.intp(min(columns - 1, 1))
        top = self.velocity[:, i, j] * (1 - fu) + self.velocity[:, i, j + right] * fu
        low = self.velocity[:, i + down, j] * (1 - fu) + self.velocity[:, i + down, j + right] * fu
        found: NDArray[np.float64] = top * (1 - fv) + low * fv
        return found


def fit_motion(
    frames: NDArray[np.float32], faint: float, y0: int = 0, x0: int = 0, every: int = EVERY, spread: float = SPREAD
) -> MotionField:
    """The motion in (step, y, x) frames of neighbouring steps, NaN where nothing is known; steps without data are NaN.

    ``faint`` is what counts as nothing to see, in the unit of the frames. Frames without anything give no motion.
    Raises NothingFound if no two neighbouring steps have data, MissingExtra without OpenCV.
    """
    seen = [_bright(f, faint) if np.isfinite(f).any() else None for f in frames]
    pairs = [(a, b) for a, b in pairwise(seen) if a is not None and b is not None]
    if not pairs:
        raise NothingFound(f"motion: {len(frames)} steps, of which no two neighbours have data")
    cv2 = opencv()
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    total = np.zeros((2, *frames.shape[1:]), np.float32)
    weight = np.full(frames.shape[1:], 1e-12, np.float32)
    for before, after in pairs:
        moved = np.moveaxis(flow.calc(before, after, None)[..., ::-1], -1, 0)
        here = np.minimum(before, after).astype(np.float32) / 255
        total += moved * here
        weight += here
    mean = (total.sum((1, 2), dtype=np.float64) / weight.sum(dtype=np.float64)).astype(np.float32)

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(values, (0, 0), spread, borderType=cv2.BORDER_CONSTANT)
        rows, columns = (np.minimum(np.arange(0, n + every - 1, every), n - 1) for n in values.shape)
        return np.asarray(blurred[np.ix_(rows, columns)], np.float64)

    near = smooth(weight)
    velocity = np.stack([(smooth(t) + m * LEAST) / (near + LEAST) for t, m in zip(total, mean, strict=True)])
    return MotionField(velocity, y0, x0, every)


def _bright(frame: NDArray[np.float32], faint: float) -> NDArray[np.uint8]:
    """A frame as a picture: the logarithm of what is above ``faint``."""
    above = np.log2(np.maximum(np.nan_to_num(frame), faint) / faint)
    return np.clip(above * LEVELS, 0, 255).astype(np.uint8)


def paths(motion: MotionField, window: Window, steps: int) -> Iterator[NDArray[np.float32]]:
    """Where the pixels of a window come from, after 1, 2, … ``steps``: (2, y, x) pixels to go back in y and x.

    Followed backwards from nodes of the plane by the midpoint rule, and bilinear between them, so that a pixel's path
    does not depend on the window.
    """
    every = motion.every
    nodes = [
        np.arange(a // every, (b - 1) // every + 2) * every for a, b in ((window.y0, window.y1), (window.x0, window.x1))
    ]
    y, x = np.meshgrid(*(n.astype(np.float64) for n in nodes), indexing="ij")
    back = np.zeros((2, *y.shape))
    rows, columns = (_between(a, b, every) for a, b in ((window.y0, window.y1), (window.x0, window.x1)))
    for _ in range(steps):
        half = motion.at(y - back[0], x - back[1]) / 2
        back = back + motion.at(y - back[0] - half[0], x - back[1] - half[1])
        yield _spread_out(_spread_out(back.astype(np.float32), rows, 1), columns, 2)


def _between(start: int, stop: int, every: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Of each pixel the node before it, counted from the first, and how far on it lies towards the next."""
    pixel = np.arange(start, stop)
    return pixel // every - start // every, (pixel % every).astype(np.float32) / np.float32(every)


def _spread_out(
    values: NDArray[np.float32], where: tuple[NDArray[np.intp], NDArray[np.float32]], axis: int
) -> NDArray[np.float32]:
    node, share = where
    share = share.reshape([-1 if n == axis else 1 for n in range(values.ndim)])
    found: NDArray[np.float32] = values.take(node, axis) * (1 - share) + values.take(node + 1, axis) * share
    return found


def moved(frame: NDArray[np.float32], origin: Window, back: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """(y, x) of ``window``: what has come there from a frame that covers ``origin``, bilinear.

    ``back`` is what `paths` gives. NaN where what comes is unknown or from beyond ``origin``.
    """
    height, width = frame.shape
    start = (window.y0 - origin.y0, window.x0 - origin.x0)
    whole = np.floor(-back)
    fy, fx = -back - whole
    shift = whole.astype(np.int64)
    i = shift[0] + np.arange(start[0], start[0] + back.shape[1])[:, None]
    j = shift[1] + np.arange(start[1], start[1] + back.shape[2])
    inside = (i >= 0) & (j >= 0) & (i + (fy > 0) < height) & (j + (fx > 0) < width)
    i, j = i.clip(0, height - 1), j.clip(0, width - 1)
    flat, low = frame.ravel(), np.minimum(i + 1, height - 1) * width
    here, right = i * width, np.minimum(j + 1, width - 1)
    top = flat.take(here + j) * (1 - fx) + flat.take(here + right) * fx
    bottom = flat.take(low + j) * (1 - fx) + flat.take(low + right) * fx
    return np.where(inside, top * (1 - fy) + bottom * fy, np.float32(np.nan))
