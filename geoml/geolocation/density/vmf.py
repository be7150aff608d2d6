"""The von Mises–Fisher distribution on the sphere: density, mass in caps, and concentration from a radius.

Fisher: Dispersion on a sphere. Proc. R. Soc. A 217, 1953, https://doi.org/10.1098/rspa.1953.0064. With concentration
kappa around mu the density is kappa / (2 pi (1 - exp(-2 kappa))) exp(kappa (mu.x - 1)) per steradian, which does not
overflow; kappa = 0 is the uniform one. Angles are in radians here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError
from geoml.grid.sphere import EARTH_RADIUS_KM

Floats = NDArray[np.float64]

LEAST = 1e-6
"""Concentrations below are taken as this one, which nothing can tell from uniform."""
MOST = 1e10
"""Concentrations above are taken as this one: 90 % within 0.14 km. Below that pictures have no place."""

CHUNK = 1024
"""Rings of so many caps are worked on at once, which fit into the cache of a core."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def clipped(kappa: ArrayLike) -> Floats:
    """The concentration within what the formulas below bear."""
    return np.clip(np.asarray(kappa, np.float64), LEAST, MOST)


def log_peak(kappa: ArrayLike) -> Floats:
    """Log of the density at its centre, in nats per steradian."""
    k = clipped(kappa)
    return np.asarray(np.log(k / (2 * np.pi)) - np.log(-np.expm1(-2 * k)))


def mass(kappa: ArrayLike, angle: ArrayLike) -> Floats:
    """Share that lies within ``angle`` of the centre."""
    k = clipped(kappa)
    height = 2 * np.sin(np.clip(angle, 0, np.pi) / 2) ** 2
    return np.asarray(np.expm1(-k * height) / np.expm1(-2 * k))


def quantile(kappa: ArrayLike, p: ArrayLike) -> Floats:
    """Angle that holds the share ``p`` of the mass: the inverse of `mass`."""
    k = clipped(kappa)
    height = -np.log1p(np.asarray(p, np.float64) * np.expm1(-2 * k)) / k
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(height / 2, 0, 1))))


def concentration(radius_km: ArrayLike, p: float = 0.9) -> Floats:
    """The kappa whose share ``p`` lies within a radius; about -ln(1 - p) / (1 - cos(radius / R)), solved exactly.

    Zero where the uniform distribution has more than ``p`` there. Raises InputError for p outside (0, 1) and a radius
    below zero or not finite.
    """
    radius = np.asarray(radius_km, np.float64)
    if not 0 < p < 1 or not np.isfinite(radius).all() or (radius < 0).any():
        raise InputError(f"radius {radius.min(initial=0)} km, p {p}; expected radii of at least 0 and p in (0, 1)")
    angle = np.minimum(radius / EARTH_RADIUS_KM, np.pi)
    low, high = np.full(radius.shape, np.log(LEAST)), np.full(radius.shape, np.log(MOST))
    for _ in range(60):
        middle = (low + high) / 2
        less = mass(np.exp(middle), angle) < p
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray(np.where(mass(LEAST, angle) >= p, 0.0, np.exp((low + high) / 2)))


def mass_in_cap(kappa: ArrayLike, apart: ArrayLike, radius: ArrayLike) -> Floats:
    """Share that lies within ``radius`` of a point ``apart`` from the centre; arrays broadcast.

    Rings around the centre lie inside, outside, or by a part that spherical trigonometry gives; the parts are summed
    over the mass of the rings by Gauss-Legendre with 24 nodes, after the square roots at both ends are substituted
    away. Exact for ``apart`` 0; else within 1e-4 of a numerical integral, mostly far better.
    """
    k, d, r = np.broadcast_arrays(clipped(kappa), np.asarray(apart, np.float64), np.asarray(radius, np.float64))
    r = np.minimum(r, np.pi)
    low, high = np.abs(r - d), np.minimum(r + d, 2 * np.pi - r - d)
    inner, outer = mass(k, low), mass(k, high)
    inside = np.array(np.where(r >= d, inner, 0.0) + np.where(r + d > np.pi, 1 - outer, 0.0))
    cut = outer - inner > 1e-9
    if cut.any():
        inside[cut] += _parts(k[cut], d[cut], r[cut], inner[cut], outer[cut])
    return np.asarray(np.clip(inside, 0.0, 1.0))


def _parts(k: Floats, d: Floats, r: Floats, inner: Floats, outer: Floats) -> Floats:
    """(M,) mass within the cap of rings that it cuts: those that hold shares between ``inner`` and ``outer``."""
    turn = np.sin(np.pi / 2 * _NODES)
    stretch = _WEIGHTS * np.pi / 2 * np.cos(np.pi / 2 * _NODES)
    half = (outer - inner)[:, None] / 2
    part = np.empty((len(k), len(turn)))
    for start in range(0, len(k), CHUNK):
        rows = slice(start, start + CHUNK)
        theta = quantile(k[rows, None], inner[rows, None] + half[rows] * (1 + turn))
        part[rows] = _share(theta, d[rows, None], r[rows, None])
    part *= half
    return np.asarray(part @ stretch)


def _share(theta: Floats, d: Floats, r: Floats) -> Floats:
    """Share of a ring at ``theta`` that lies within ``r`` of a point ``d`` from its centre."""
    s = (theta + d + r) / 2
    across = np.sin(s - theta) * np.sin(s - d)  # half-angle formula: nothing cancels in small triangles
    along = np.sin(s) * np.sin(s - r)
    return np.asarray(2 / np.pi * np.arctan2(np.sqrt(np.maximum(across, 0)), np.sqrt(np.maximum(along, 0))))
