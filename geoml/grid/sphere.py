"""The sphere: distances, directions and averages of places, correct at the antimeridian, the poles and the antipode.

Degrees, ``lon`` before ``lat``, float64; kilometres on the sphere of the Earth's mean radius; unit vectors ``xyz``
(..., 3) with x towards (lon 0, lat 0) and z to the north pole. Everything goes through unit vectors, so no longitude
and no pole is special. Distances are within 0.6 % of those on the ellipsoid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of WGS 84, (2a + b) / 3: Moritz, Geodetic Reference System 1980, https://doi.org/10.1007/s001900050278."""

Floats = NDArray[np.float64]


def wrap(lon: ArrayLike) -> Floats:
    """Longitudes of any turn in [-180, 180)."""
    turned = np.mod(np.asarray(lon, np.float64) + 180.0, 360.0)
    return np.asarray(np.where(turned >= 360.0, 0.0, turned) - 180.0)  # mod rounds up to 360 just below zero


def to_xyz(lon: ArrayLike, lat: ArrayLike) -> Floats:
    """(...) degrees to (..., 3) unit vectors."""
    x, y = np.broadcast_arrays(np.radians(np.asarray(lon, np.float64)), np.radians(np.asarray(lat, np.float64)))
    return np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)


def to_lonlat(xyz: ArrayLike) -> tuple[Floats, Floats]:
    """(..., 3) vectors of any length but zero to (lon, lat) in degrees, lon in [-180, 180)."""
    v = np.asarray(xyz, np.float64)
    lon = wrap(np.degrees(np.arctan2(v[..., 1], v[..., 0])))
    return lon, np.asarray(np.degrees(np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1]))))


def distance(lon1: ArrayLike, lat1: ArrayLike, lon2: ArrayLike, lat2: ArrayLike) -> Floats:
    """Great-circle distance in km; shapes broadcast. The haversine in its atan2 form, exact near 0 and the antipode.

    Sinnott: Virtues of the Haversine. Sky and Telescope 68, 1984.
    """
    y1, y2 = np.radians(np.asarray(lat1, np.float64)), np.radians(np.asarray(lat2, np.float64))
    x1, x2 = np.radians(np.asarray(lon1, np.float64)), np.radians(np.asarray(lon2, np.float64))
    a = np.sin((y2 - y1) / 2) ** 2 + np.cos(y1) * np.cos(y2) * np.sin((x2 - x1) / 2) ** 2
    # 1 - a without cancellation, from the antipode of the second place: b = sin^2 of half the distance to it
    b = np.sin((y2 + y1) / 2) ** 2 + np.cos(y1) * np.cos(y2) * np.cos((x2 - x1) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arctan2(np.sqrt(a), np.sqrt(b)))


def chord(km: ArrayLike) -> Floats:
    """Length of the chord between unit vectors that are ``km`` apart, for trees of neighbours."""
    return np.asarray(2 * np.sin(np.clip(np.asarray(km, np.float64) / (2 * EARTH_RADIUS_KM), 0, np.pi / 2)))


def destination(lon: ArrayLike, lat: ArrayLike, bearing: ArrayLike, km: ArrayLike) -> tuple[Floats, Floats]:
    """Where one is after ``km`` along the great circle that leaves (lon, lat) in direction ``bearing``; (lon, lat)."""
    x, y, turn, far = np.broadcast_arrays(
        *(np.radians(np.asarray(v, np.float64)) for v in (lon, lat, bearing)),
        np.asarray(km, np.float64) / EARTH_RADIUS_KM,
    )
    zero = np.zeros_like(x)
    up = np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=-1)
    north = np.stack([-np.sin(y) * np.cos(x), -np.sin(y) * np.sin(x), np.cos(y)], axis=-1)
    east = np.stack([-np.sin(x), np.cos(x), zero], axis=-1)
    forward = np.cos(turn)[..., None] * north + np.sin(turn)[..., None] * east
    return to_lonlat(np.cos(far)[..., None] * up + np.sin(far)[..., None] * forward)


def mean(lon: ArrayLike, lat: ArrayLike, weight: ArrayLike | None = None) -> tuple[float, float]:
    """(lon, lat) in the direction of the sum of unit vectors of (N,) places, each ``weight`` times.

    Where they cancel out exactly (two antipodes) no place is better than another and it is that of the largest
    weight. Raises InputError without places or where weights are not positive in sum.
    """
    xyz, w = _weighted(lon, lat, weight)
    total = w @ xyz
    if np.linalg.norm(total) <= 1e-12 * w.sum():
        total = xyz[np.argmax(w)]
    x, y = to_lonlat(total)
    return float(x), float(y)


def angles(a: Floats, b: Floats) -> Floats:
    """(N, 3) and (K, 3) unit vectors to (N, K) angles in radians, exact near 0 and pi."""
    cosine = a @ b.T
    near = np.abs(cosine) > 0.99
    angle = np.arccos(np.clip(cosine, -1, 1))
    if near.any():
        i, j = np.nonzero(near)
        p, q = a[i], b[j]
        angle[i, j] = 2 * np.arctan2(np.linalg.norm(p - q, axis=1), np.linalg.norm(p + q, axis=1))
    return np.asarray(angle)


def cap_area(km: ArrayLike) -> Floats:
    """Area in km² of the cap of all places within ``km`` of one; at most the whole sphere."""
    half = np.clip(np.asarray(km, np.float64) / (2 * EARTH_RADIUS_KM), 0, np.pi / 2)
    return np.asarray(4 * np.pi * EARTH_RADIUS_KM**2 * np.sin(half) ** 2)


def check(lon: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """The places as (N,) float64 with lon in [-180, 180). Raises InputError for unequal lengths or invalid places."""
    x, y = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"lon, lat: shapes {x.shape} and {y.shape}; expected two lists of the same length")
    bad = ~(np.isfinite(x) & (np.abs(y) <= 90) & (np.abs(x) <= 360))
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(f"lon, lat: ({x[i]}, {y[i]}) at place {i}; expected degrees, lat in [-90, 90]")
    return wrap(x), y


def _weighted(lon: ArrayLike, lat: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats]:
    """(N, 3) unit vectors and (N,) weights."""
    x, y = check(np.atleast_1d(lon), np.atleast_1d(lat))
    w = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    if not len(x) or w.shape != x.shape or not (w >= 0).all() or not 0 < w.sum() < np.inf:
        raise InputError(f"weight: {len(x)} places with weights of shape {w.shape}; expected one each, not negative")
    return to_xyz(x, y), w
