"""The sphere: distances, directions and averages of places, correct at the antimeridian, the poles and the antipode.

Degrees, ``lon`` before ``lat``, float64; kilometres on the sphere of the Earth's mean radius; unit vectors ``xyz``
(..., 3) with x towards (lon 0, lat 0) and z to the north pole. Everything goes through unit vectors, so no longitude
and no pole is special. Distances are within 0.6 % of those on the ellipsoid.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def bearing(lon1: ArrayLike, lat1: ArrayLike, lon2: ArrayLike, lat2: ArrayLike) -> Floats:
    """Direction in which the great circle leaves the first place, degrees clockwise from north, in [0, 360)."""
    y1, y2 = np.radians(np.asarray(lat1, np.float64)), np.radians(np.asarray(lat2, np.float64))
    dx = np.radians(np.asarray(lon2, np.float64) - np.asarray(lon1, np.float64))
    east = np.sin(dx) * np.cos(y2)
    north = np.sin(y2 - y1) + 2 * np.sin(y1) * np.cos(y2) * np.sin(dx / 2) ** 2
    turned = np.mod(np.degrees(np.arctan2(east, north)), 360.0)
    return np.asarray(np.where(turned >= 360.0, 0.0, turned))


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


def median(lon: ArrayLike, lat: ArrayLike, weight: ArrayLike | None = None) -> tuple[float, float]:
    """(lon, lat) of the smallest sum of weighted distances to (N,) places: their geodesic median.

    Newton's and Weiszfeld's steps in the tangent plane: Fletcher, Venkatasubramanian, Joshi: Robust Statistics on
    Riemannian Manifolds via the Geometric Median. CVPR 2008, https://doi.org/10.1109/CVPR.2008.4587747. The sum has
    several minima where places lie further apart than a hemisphere, so it starts at the best of the places and the
    mean. Within a hemisphere the mean distance is within 1 m of the least. Raises InputError as `mean`.
    """
    xyz, w = _weighted(lon, lat, weight)
    starts = np.concatenate([to_xyz(*mean(lon, lat, weight))[None], xyz[np.argsort(-w, kind="stable")[:256]]])
    costs = angles(starts, xyz) @ w
    at = starts[np.argmin(costs)]
    cost = float(costs.min())
    for _ in range(100):
        for step in _descents(at, xyz, w):
            length = float(np.linalg.norm(step))
            there = at * np.cos(length) + step * np.sinc(length / np.pi)
            there /= np.linalg.norm(there)
            next_cost = float(angles(there[None], xyz)[0] @ w)
            if next_cost < cost - 1e-15 * w.sum():
                break
        else:
            break
        at, cost = there, next_cost
    x, y = to_lonlat(at)
    return float(x), float(y)


def _descents(at: Floats, xyz: Floats, w: Floats) -> Iterator[Floats]:
    """Steps (3,) in the tangent plane of ``at`` to try in turn; none where ``at`` is a place that outdoes the others.

    Newton's, where the sum is convex, then Weiszfeld's and shorter ones. A start on one of the places: Vardi, Zhang:
    The multivariate L1-median and associated data depth. PNAS 97, 2000, https://doi.org/10.1073/pnas.97.4.1423.
    """
    across = xyz - (xyz @ at)[:, None] * at
    sine = np.linalg.norm(across, axis=1)
    far = np.arctan2(sine, xyz @ at)
    away = (far > 1e-12) & (sine > 1e-12)
    unit = across[away] / sine[away, None]
    pull = w[away] @ unit
    if (behind := float(w[far > np.pi - 1e-12].sum())) > 0:  # of the antipode every way leads nearer
        forward = pull if np.linalg.norm(pull) > 0 else np.cross(at, np.eye(3)[np.argmin(np.abs(at))])
        pull = pull + behind * forward / np.linalg.norm(forward)
    here, strength = float(w[far <= 1e-12].sum()), float(np.linalg.norm(pull))
    if strength <= here or strength == 0:
        return
    bend = w[away] / np.tan(far[away])
    hessian = bend.sum() * (np.eye(3) - np.outer(at, at)) - (unit * bend[:, None]).T @ unit
    if here == 0 and np.linalg.eigvalsh(hessian)[1] > 1e-12:  # its zero is along ``at``
        newton = np.linalg.solve(hessian + np.outer(at, at), pull)
        yield from (newton / 2**k for k in range(4) if np.linalg.norm(newton) < 2**k)
    weiszfeld = pull / (float((w[away] / far[away]).sum()) or 1.0) * (1 - here / strength)
    yield from (weiszfeld / 2**k for k in range(-2, 40))


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
    """The places as (N,) float64 with lon in [-180, 180). Raises InputError for unequal lengths or what is no place."""
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
