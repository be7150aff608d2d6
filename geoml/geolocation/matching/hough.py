"""Hypotheses from single matches: each keypoint pair votes for the place, scale and heading of the whole picture.

Lowe 2004 (https://doi.org/10.1023/B:VISI.0000029664.99615.94), section 7.1: broad bins in four dimensions, and each
match votes for the two nearest bins of each, so that no border splits a cluster. True matches agree by chance in no
other bin, so few of them stand out among thousands of false ones.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.grid.homography import Matrix, apply, middle, similarity

ANGLE = math.radians(30)
OCTAVE = 1.0
PLACE = 0.25
"""Widths of the bins: radians, factors of two of scale, and shares of the picture's longer side on the ground."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Picture pixels to reference pixels by a similarity (3, 3); ``group`` is the reference picture, else 0."""

    matrix: Matrix
    group: int


def hypotheses(
    source: NDArray[np.floating],
    target: NDArray[np.floating],
    weight: NDArray[np.floating],
    group: NDArray[np.integer],
    shape: tuple[int, int],
    most: int,
) -> list[Hypothesis]:
    """The ``most`` best hypotheses, most votes first, that do not repeat each other.

    ``source`` and ``target`` (M, 4) are matched keypoints as x, y, size, angle (radians); ``weight`` (M,) is what a
    match counts, ``group`` (M,) the reference picture of the target, ``shape`` the picture's (rows, columns).
    """
    if not len(source):
        return []
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    scale = b[:, 2] / np.maximum(a[:, 2], 1e-9)
    angle = (b[:, 3] - a[:, 3]) % math.tau
    reach = middle(shape)[0] - a[:, :2]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    x = b[:, 0] + cos * reach[:, 0] - sin * reach[:, 1]
    y = b[:, 1] + sin * reach[:, 0] + cos * reach[:, 1]
    octave = np.floor(np.log2(scale) / OCTAVE)
    turns = round(math.tau / ANGLE)
    keys = []
    for step in (0, 1):
        level = octave + step - (np.log2(scale) / OCTAVE % 1 < 0.5)
        side = PLACE * max(shape) * 2.0 ** (level * OCTAVE)
        for dx, dy, da in itertools.product((0, 1), repeat=3):
            across, down = np.floor(x / side - 0.5) + dx, np.floor(y / side - 0.5) + dy
            keys.append(np.stack([group, level, across, down, (np.floor(angle / ANGLE - 0.5) + da) % turns]))
    key = np.concatenate(keys, 1).astype(np.int64)
    order = np.lexsort(key[::-1])
    key, voter = key[:, order], order % len(a)
    start = np.flatnonzero(np.append(True, (key[:, 1:] != key[:, :-1]).any(0)))
    stop = np.append(start[1:], len(voter))
    total = np.add.reduceat(np.asarray(weight, np.float64)[voter], start)
    best: list[Hypothesis] = []
    for bin_ in np.argsort(-total, kind="stable")[: 40 * most]:
        members = voter[start[bin_] : stop[bin_]]
        middles = np.median(np.column_stack([x, y, np.log2(scale)])[members], 0)
        heading = float(np.angle(np.exp(1j * angle[members]).sum()))
        size = 2.0 ** float(middles[2])
        matrix = similarity(size, heading, 0, 0)
        matrix[:2, 2] = middles[:2] - apply(matrix, middle(shape))[0]
        new = Hypothesis(matrix, int(key[0, start[bin_]]))
        if not any(_same(new, old, shape) for old in best):
            best.append(new)
        if len(best) == most:
            break
    return best


def _same(a: Hypothesis, b: Hypothesis, shape: tuple[int, int]) -> bool:
    """Whether two hypotheses are so near that the search around one finds the other."""
    if a.group != b.group:
        return False
    sizes = [math.hypot(*h.matrix[:2, 0]) for h in (a, b)]
    apart = np.hypot(*(apply(a.matrix, middle(shape)) - apply(b.matrix, middle(shape)))[0])
    turn = abs(np.angle(complex(*a.matrix[:2, 0]) / complex(*b.matrix[:2, 0])))
    return bool(apart < PLACE * max(shape) * max(sizes) and turn < ANGLE and max(sizes) < 2 * min(sizes))
