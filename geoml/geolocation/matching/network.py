"""Pictures that overlap, placed together on a plane from weak positions of their own.

Each picture is a similarity, a complex line ``a z + b``. First the scales and headings are averaged over what pictures
share, then the places, then the whole is laid on the positions by one similarity. Done at once it would shrink: nothing
fits better than everything on one point. What contradicts the rest weighs less (Huber 1964,
https://doi.org/10.1214/aoms/1177703732).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from geoml.grid.homography import Matrix, Points

ROUNDS = 8
HUBER = 1.5
LEAST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """What pictures ``first`` and ``second`` share: (N, 2) pixels of either."""

    first: int
    second: int
    source: Points
    target: Points


@dataclass(frozen=True, slots=True, eq=False)
class FrameNetwork:
    """``matrices[k]`` (3, 3) takes pixels of picture k to metres (x east, y north), None if it could not be placed.

    ``residual`` (K,) metres between each middle and its position, NaN where it has no matrix.
    """

    matrices: tuple[Matrix | None, ...]
    residual: NDArray[np.float64]


def adjust(
    shapes: Sequence[tuple[int, int]], positions: Points, ties: Sequence[Tie], *, sigma: float = 5.0
) -> FrameNetwork:
    """The network of K pictures of ``shapes`` (rows, columns) at ``positions`` (K, 2) metres.

    ``sigma`` metres is the standard deviation of a position. A component of fewer than `LEAST` pictures has no scale
    and heading worth the name and is not placed.
    """
    count = len(shapes)
    links = scipy.sparse.coo_array(
        (np.ones(len(ties)), ([t.first for t in ties], [t.second for t in ties])), shape=(count, count)
    )
    _, names = scipy.sparse.csgraph.connected_components(links, directed=False)
    sizes = np.bincount(names, minlength=count)
    matrices: list[Matrix | None] = [None] * count
    residual = np.full(count, np.nan)
    for name in np.flatnonzero(sizes >= LEAST):
        members = np.flatnonzero(names == name)
        solved, away = _solve(members, shapes, positions, [t for t in ties if names[t.first] == name], sigma)
        for k, matrix, far in zip(members, solved, away, strict=True):
            matrices[k], residual[k] = matrix, far
    return FrameNetwork(tuple(matrices), residual)


def _solve(
    members: NDArray[np.int64],
    shapes: Sequence[tuple[int, int]],
    positions: Points,
    ties: Sequence[Tie],
    sigma: float,
) -> tuple[list[Matrix], NDArray[np.float64]]:
    slot = {int(k): n for n, k in enumerate(members)}
    half = max(max(shapes[k]) for k in members) / 2
    links = np.array([(slot[t.first], slot[t.second]) for t in ties])
    shared = [(_complex(t.source, shapes[t.first], half), _complex(t.target, shapes[t.second], half)) for t in ties]
    a = _scales(links, np.array([_ratio(p, q) for p, q in shared]), len(members))
    steps = np.array(
        [
            np.median((r := a[j] * q - a[i] * p).real) + 1j * np.median(r.imag)
            for (i, j), (p, q) in zip(links, shared, strict=True)
        ]
    )
    b = _averaged(links, steps, len(members))
    goal = positions[members] @ np.array([1, 1j])
    factor, shift = _helmert(b, goal, sigma)
    a, b = factor * a, factor * b + shift
    return [_matrix(a[n], b[n], shapes[k], half) for n, k in enumerate(members)], np.abs(b - goal)


def _ratio(first: NDArray[np.complex128], second: NDArray[np.complex128]) -> complex:
    """The a in ``second = a first + b``, by least squares."""
    p, q = first - first.mean(), second - second.mean()
    return complex(np.vdot(p, q) / max(float(np.vdot(p, p).real), 1e-12))


def _scales(links: NDArray[np.int64], ratios: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """``a`` (K,) with a[first] = ratio a[second], by averages of logarithms: nothing shrinks, as lengths would.

    Angles are first carried along a tree, so that what is averaged is a small difference.
    """
    carried = np.ones(count, complex)
    table = {}
    for (i, j), ratio in zip(links.tolist(), ratios, strict=True):
        table[i, j], table[j, i] = 1 / ratio, ratio  # from first to second, and back
    graph = scipy.sparse.coo_array((np.ones(len(links)), links.T), shape=(count, count)).tocsr()
    order, before = scipy.sparse.csgraph.breadth_first_order(graph, 0, directed=False)
    for k in order[1:]:
        carried[k] = carried[before[k]] * table[int(before[k]), int(k)]
    left = np.log(ratios * carried[links[:, 1]] / carried[links[:, 0]])
    return np.asarray(carried * np.exp(_averaged(links, -left, count)))


def _averaged(links: NDArray[np.int64], steps: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """``b`` (K,) with b[second] - b[first] = -step, the first at zero; links that contradict the rest weigh less."""
    rows = np.repeat(np.arange(len(links)), 2)
    design = scipy.sparse.csr_array(
        (np.tile([1.0, -1.0], len(links)), (rows, links.ravel())), shape=(len(links), count)
    )[:, 1:]
    weight = np.ones(len(links))
    b = np.zeros(count, complex)
    for _ in range(ROUNDS):
        normal = design.T @ scipy.sparse.diags_array(weight) @ design + 1e-12 * scipy.sparse.eye_array(count - 1)
        b[1:] = scipy.sparse.linalg.splu(normal.tocsc().astype(complex)).solve(design.T @ (weight * steps))
        away = np.abs(design @ b[1:] - steps)
        weight = np.minimum(1, HUBER * max(float(np.median(away)), 1e-9) / np.maximum(away, 1e-12))
    return b


def _helmert(b: NDArray[np.complex128], goal: NDArray[np.complex128], sigma: float) -> tuple[complex, complex]:
    """(factor, shift) of the similarity that takes ``b`` nearest to ``goal``."""
    weight = np.ones(len(b))
    factor, shift = 1 + 0j, 0j
    for _ in range(ROUNDS):
        at, to = np.average(b, weights=weight), np.average(goal, weights=weight)
        p, q = b - at, goal - to
        factor = complex(np.vdot(weight * p, q) / max(float(np.vdot(weight * p, p).real), 1e-12))
        shift = complex(to - factor * at)
        weight = np.minimum(1, HUBER * sigma / np.maximum(np.abs(factor * b + shift - goal), 1e-9))
    return factor, shift


def _complex(points: Points, shape: tuple[int, int], half: float) -> NDArray[np.complex128]:
    """Pixels as complex numbers from the middle, y upwards, about one in size."""
    return np.asarray(((points[:, 0] - shape[1] / 2) - 1j * (points[:, 1] - shape[0] / 2)) / half)


def _matrix(a: complex, b: complex, shape: tuple[int, int], half: float) -> Matrix:
    c, s = a.real / half, a.imag / half
    linear = np.array([[c, s], [s, -c]])
    shift = np.array([b.real, b.imag]) - linear @ np.array([shape[1] / 2, shape[0] / 2])
    return np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0, 0, 1]])
