"""What is known of a picture beside its pixels, as log-priors over the sphere that add up.

A prior maps longitude and latitude in degrees (any shape that broadcasts) to a log-probability up to a constant. It
is about 0 where all fits and never below its ``floor``, since clocks are wrong, captions name other places and pictures
are shared by people elsewhere: evidence from pixels can always win.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from geoml.errors import InputError
from geoml.geolocation.density import sun as solar
from geoml.grid import sphere

Floats = NDArray[np.float64]
LogPrior = Callable[[ArrayLike, ArrayLike], Floats]

EARLY, LATE, SHOULDER = -1.0, 2.25, 0.5
"""Hours that clocks run ahead of the sun, from the east of wide zones to their west in summer; how sharp that is."""

NARROWEST_KM = 50.0
"""Spread of a place in a caption, at least: priors are asked at the middles of cells, not everywhere."""


def utc_offset(hours: float, floor: float = -4.0) -> LogPrior:
    """The camera's clock is ``hours`` ahead of UTC: a band of longitudes about 15° · ``hours``.

    Real zones run up to an hour behind the sun and, with summer time or in the west of Spain or China, over two hours
    ahead. Raises InputError for what is no offset of a zone.
    """
    if not -12 <= hours <= 14:
        raise InputError(f"utc_offset: {hours}; expected hours between -12 and 14")

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        x, _ = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
        ahead = (hours - x / 15 + 12 - (EARLY + LATE) / 2) % 24 - 12  # from the middle of the band
        beyond = np.maximum(np.abs(ahead) - (LATE - EARLY) / 2, 0)
        return _bounded(-0.5 * (beyond / SHOULDER) ** 2, floor)

    return prior


def sun(time_utc: dt.datetime, elevation_deg: float, sigma: float = 5.0, floor: float = -4.0) -> LogPrior:
    """The sun stood ``elevation_deg`` above the horizon, as read from shadows, give or take ``sigma`` degrees."""
    if not (-90 <= elevation_deg <= 90 and sigma > 0):
        raise InputError(f"sun: {elevation_deg}° ± {sigma}°; expected -90 to 90 and a positive spread")
    solar.subsolar(time_utc)  # refuses a time without a zone now, not when the prior is asked

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        return _bounded(-0.5 * ((solar.elevation(time_utc, lon, lat) - elevation_deg) / sigma) ** 2, floor)

    return prior


def daylight(time_utc: dt.datetime, floor: float = -3.0) -> LogPrior:
    """The picture shows daylight: the sun was up, or the dusk of the first degrees below the horizon."""
    solar.subsolar(time_utc)

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        return _bounded(log_ndtr((solar.elevation(time_utc, lon, lat) + 3.0) / 2.0), floor)

    return prior


def near(
    lon: float,
    lat: float,
    *,
    sigma_km: float | None = None,
    covariance_m: ArrayLike | None = None,
    floor: float = -20.0,
) -> LogPrior:
    """A position known beforehand, as of a drone's last fix: normal in the plane that touches there.

    Give ``sigma_km``, or ``covariance_m``: (2, 2), m², east before north. Raises InputError for none or both of them,
    or a covariance that is not symmetric and positive.
    """
    if (sigma_km is None) == (covariance_m is None):
        raise InputError("near: expected either sigma_km or covariance_m")
    matrix = np.eye(2) * float(sigma_km or 0) ** 2 if covariance_m is None else np.asarray(covariance_m, float) / 1e6
    if matrix.shape != (2, 2) or not np.allclose(matrix, matrix.T) or not (np.linalg.eigvalsh(matrix) > 0).all():
        raise InputError("near: expected a positive sigma_km, or a symmetric positive covariance_m of 2 x 2")
    precision = np.linalg.inv(matrix)

    def prior(x: ArrayLike, y: ArrayLike) -> Floats:
        away = _offsets_km(lon, lat, x, y)
        return _bounded(-0.5 * np.einsum("...i,ij,...j->...", away, precision, away), floor)

    return prior


def places(found: Iterable[tuple[float, float, float, float]], floor: float = -4.0) -> LogPrior:
    """One of some places is meant, as named in a caption: (lon, lat, weight, sigma_km) each; none says nothing.

    Weights are heights: a place is as likely at its middle as its weight says, however wide it is.
    """
    table = np.array(list(found), float).reshape(-1, 4)
    if not (np.isfinite(table).all() and (table[:, 2:] > 0).all()):
        raise InputError("places: expected finite positions with positive weights and spreads")
    if not len(table):
        return both()
    x, y, weight, spread = table.T
    spread = np.maximum(spread, NARROWEST_KM)

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        km = sphere.distance(np.asarray(lon, float)[..., None], np.asarray(lat, float)[..., None], x, y)
        raw = np.log(weight / weight.max()) - 0.5 * (km / spread) ** 2
        return _bounded(np.minimum(np.logaddexp.reduce(raw, axis=-1), 0.0), floor)

    return prior


def altitude(
    height: float,
    heights_at: Callable[[ArrayLike, ArrayLike], ArrayLike],
    sigma: float = 100.0,
    floor: float = -4.0,
) -> LogPrior:
    """The camera was ``height`` metres above sea level, on ground whose height ``heights_at(lon, lat)`` gives.

    ``sigma`` (m) holds the error of the receiver, the relief within a cell and what one stands on. Where the ground's
    height is not finite the prior takes half of its floor.
    """
    if not (math.isfinite(height) and sigma > 0):
        raise InputError(f"altitude: {height} m ± {sigma} m; expected finite, and a positive spread")

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        ground = np.asarray(heights_at(lon, lat), float)
        raw = _bounded(-0.5 * ((np.nan_to_num(ground) - height) / sigma) ** 2, floor)
        return np.where(np.isfinite(ground), raw, floor / 2)

    return prior


def both(*priors: LogPrior) -> LogPrior:
    """All of them at once, as if they were independent; none says nothing."""

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        total = np.zeros(np.broadcast_shapes(np.shape(lon), np.shape(lat)))
        for one in priors:
            total = total + one(lon, lat)
        return total

    return prior


def _bounded(raw: ArrayLike, floor: float) -> Floats:
    """``raw`` (0 at most) with a constant chance of e^floor that the evidence means nothing."""
    if not (floor < 0 and math.isfinite(floor)):
        raise InputError(f"floor: {floor}; expected a negative number")
    return np.asarray(np.logaddexp(raw, floor))


def _offsets_km(lon: float, lat: float, x: ArrayLike, y: ArrayLike) -> Floats:
    """(..., 2) km east and north of a position, in the azimuthal equidistant projection."""
    a, b = math.radians(lon), math.radians(lat)
    east = np.array([-math.sin(a), math.cos(a), 0.0])
    north = np.array([-math.sin(b) * math.cos(a), -math.sin(b) * math.sin(a), math.cos(b)])
    flat = sphere.to_xyz(x, y) @ np.stack([east, north], axis=-1)
    length = np.linalg.norm(flat, axis=-1)
    km = sphere.distance(lon, lat, x, y)
    aside = np.where(length[..., None] > 0, flat, [1.0, 0.0])  # the antipode lies in every direction
    return np.asarray(aside * (km / np.where(length > 0, length, 1.0))[..., None])
