"""How far the RPC of two pictures disagree across the epipolar lines: measured by tie points, then corrected.

A match along the epipolar line fits some height whatever it is, so an error along it cannot be seen; one across it
makes every row of a rectified pair look at another row. Tie points are found in two dimensions and tell it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.cube.keypoints import detect, match
from geoml.cube.stereo.pair import Overlap, Pair
from geoml.errors import DataError
from geoml.io.rpc import Floats

SIDE = 512
"""Pixels of a window in which tie points are looked for."""
WINDOWS = 5
"""Of them along each side at most, evenly spread, so that a picture of any size costs the same."""
SEARCH = 64.0
"""Pixels by which RPC may disagree."""
WITHIN = 1.0
"""Pixels from the fit within which a tie point agrees."""
NEEDED = 12
"""Tie points that must agree, and they must be a quarter of all; more than that for a fit that tilts."""
TILTS = 60


@dataclass(frozen=True)
class Parallax:
    """``shift`` (2, 3) for the right `SensorModel`, as nested tuples; ``across`` pixels of it amid the tie points.

    ``agreed`` of ``found`` tie points lie within a pixel of the fit, ``spread`` pixels around it (NMAD).
    """

    shift: tuple[tuple[float, ...], ...]
    across: float
    found: int
    agreed: int
    spread: float

    @property
    def text(self) -> str:
        """For a report."""
        return (
            f"the RPC disagree by {self.across:.2f} pixels across the epipolar lines; corrected by {self.agreed} of"
            f" {self.found} tie points, which agree to {self.spread:.2f} pixels"
        )


def parallax(pair: Pair, shared: Overlap) -> Parallax:
    """The correction of the right sensor by tie points over what is ``shared``.

    Across the epipolar lines only: constant, or affine where there are tie points enough all over. Deterministic.
    Raises DataError if too few agree: an RPC of another crop, clouds, water or pictures of different ground.
    MissingExtra.
    """
    names = f"{pair.left.name} and {pair.right.name}"
    left, right = tie_points(pair, shared)
    if len(left) < NEEDED:
        raise DataError(f"stereo: {names} have {len(left)} tie points; expected {NEEDED} or more")
    h = pair.ground(left[:, 0], left[:, 1])[2]
    left, right, h = (a[np.isfinite(h)] for a in (left, right, h))
    low, high = (pair.across(left[:, 0], left[:, 1], h + d).T for d in (-pair.heights.below, pair.heights.above))
    along = high - low
    length = np.linalg.norm(along, axis=1)
    unit = along / length[:, None]
    normal = np.array([-1.0, 1.0]) * unit.mean(0)[::-1]
    normal /= np.linalg.norm(normal)
    # the direction differs by thousandths of a radian over a picture; each point is measured across its own
    off = (right - low) @ normal - ((right - low) * unit).sum(1) * (unit @ normal)
    place = ((right - low) * unit).sum(1)
    likely = (place > -SEARCH) & (place < length + SEARCH) & (np.abs(off) < SEARCH)
    off, right = off[likely], right[likely]
    near = _densest(off)
    rpc = pair.right.sensor.rpc
    normalised = (right - rpc.offsets[:2]) / rpc.scales[:2]
    terms = np.column_stack([np.ones(len(off)), normalised - normalised.mean(0)]) if len(off) else np.zeros((0, 3))
    count = 1
    fit = np.zeros(3)
    for _ in range(5):
        if near.sum() < NEEDED:
            break
        count = 3 if near.sum() >= TILTS and _wide(right[near], shared) else 1
        fit = np.zeros(3)
        fit[:count] = np.linalg.lstsq(terms[near, :count], off[near], rcond=None)[0]
        near = np.abs(off - terms @ fit) <= WITHIN
    agreed = int(near.sum())
    if agreed < NEEDED or agreed < len(off) / 4:
        raise DataError(
            f"stereo: {agreed} of {len(left)} tie points of {names} agree on how their RPC differ; an RPC may be of"
            " another crop, or the pictures show clouds, water or another season"
        )
    spread = 1.4826 * float(np.median(np.abs(off[near] - terms[near] @ fit)))
    constant = fit[0] - fit[1:] @ normalised.mean(0)
    shift = np.outer(normal, [constant, *fit[1:]])
    return Parallax(tuple(map(tuple, shift.tolist())), float(fit[0]), len(left), agreed, spread)


def tie_points(pair: Pair, shared: Overlap) -> tuple[Floats, Floats]:
    """(n, 2) row and column of left and of right in their sensor images, by SIFT in windows of what is shared."""
    found: list[tuple[Floats, Floats]] = [(np.zeros((0, 2)), np.zeros((0, 2)))]
    for top, bottom, left, right in _windows(shared):
        row, column = (a.ravel().astype(float) for a in np.meshgrid([top, bottom], [left, right], indexing="ij"))
        h = pair.ground(row, column)[2]
        if not np.isfinite(h).any():
            continue
        h = np.where(np.isfinite(h), h, np.nanmean(h))
        ends = [pair.across(row, column, h + d) for d in (-pair.heights.below, pair.heights.above)]
        places = np.concatenate(ends, axis=1)
        first = np.floor(places.min(1) - SEARCH).astype(int)
        last = np.ceil(places.max(1) + SEARCH).astype(int)
        (y0, x0), (y1, x1) = (
            np.maximum(first, pair.right.first),
            np.minimum(last, np.add(pair.right.first, pair.right.shape)),
        )
        if y1 - y0 < 32 or x1 - x0 < 32:
            continue
        a = detect(*_bytes(pair.left.window(top, bottom, left, right)))
        b = detect(*_bytes(pair.right.window(y0, y1, x0, x1)), most=4000)
        pairs = match(a, b)
        # keypoints count from the corner of the first pixel, sensors from its centre
        points = (a.xy[pairs[:, 0]][:, ::-1] - 0.5 + [top, left], b.xy[pairs[:, 1]][:, ::-1] - 0.5 + [y0, x0])
        found.append((points[0].astype(np.float64), points[1].astype(np.float64)))
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def _windows(shared: Overlap) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of windows spread over what is shared."""
    starts = []
    for low, high in (shared.rows, shared.columns):
        count = min(WINDOWS, -(-(high - low) // SIDE))
        last = max(low, high - SIDE)
        starts.append(sorted({round(low + (last - low) * k / max(1, count - 1)) for k in range(count)}))
    for top in starts[0]:
        for left in starts[1]:
            yield top, min(top + SIDE, shared.rows[1]), left, min(left + SIDE, shared.columns[1])


def _bytes(data: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(y, x) as bytes from its 1st to its 99th percentile, and where there is data."""
    valid = np.isfinite(data)
    if not valid.any():
        return np.zeros(data.shape, np.uint8), valid
    low, high = np.percentile(data[valid], (1, 99))
    scaled = (np.where(valid, data, low) - low) * (255 / max(high - low, 1e-6))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8), valid


def _densest(values: Floats) -> NDArray[np.bool_]:
    """Those in the interval of twice ``WITHIN`` that holds most of them."""
    if not len(values):
        return np.zeros(0, np.bool_)
    ordered = np.sort(values)
    counts = np.searchsorted(ordered, ordered + 2 * WITHIN, side="right") - np.arange(len(ordered))
    start = ordered[int(counts.argmax())]
    return np.asarray((values >= start) & (values <= start + 2 * WITHIN))


def _wide(places: Floats, shared: Overlap) -> bool:
    """Whether places reach over half of what is shared, so that a tilt is not an extrapolation."""
    reach = np.ptp(places, axis=0)
    return all(r > (high - low) / 2 for r, (low, high) in zip(reach, (shared.rows, shared.columns), strict=True))
