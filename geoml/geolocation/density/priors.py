"""What is known of a picture apart from its pixels, as log-priors over the sphere that add up.

A prior maps longitude and latitude in degrees (any shape that broadcasts) to a log-probability up to a constant. It
is about 0 where all fits and never below its ``floor``, since clocks are wrong, captions name other places and pictures
are shared by people elsewhere: evidence from pixels can always win.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

from geoml.geolocation.density import sun as solar
from geoml.grid import sphere

Floats = NDArray[np.float64]
LogPrior = Callable[[ArrayLike, ArrayLike], Floats]

EARLY, LATE, SHOULDER = -1.0, 2.25, 0.5
"""Hours that clocks run ahead of the sun, from the east of wide zones to their west in summer; how sharp that is."""

NARROWEST_KM = 50.0
"""Least standard deviation of a place in a caption: priors are read at the middles of cells, not everywhere."""


def utc_offset(hours: float, floor: float = -4.0) -> LogPrior:
    """The camera's clock is ``hours`` ahead of UTC: a band of longitudes about 15° · ``hours``.

    Real zones run up to an hour behind the sun and, with summer time or in the west of Spain or China, over two hours
    ahead.
    """

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        x, _ = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
        ahead = (hours - x / 15 + 12 - (EARLY + LATE) / 2) % 24 - 12  # from the middle of the band
        beyond = np.maximum(np.abs(ahead) - (LATE - EARLY) / 2, 0)
        return _bounded(-0.5 * (beyond / SHOULDER) ** 2, floor)

    return prior


def daylight(time_utc: dt.datetime, floor: float = -3.0) -> LogPrior:
    """The picture shows daylight: the sun was up, or the dusk of the first degrees below the horizon."""

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        return _bounded(log_ndtr((solar.elevation(time_utc, lon, lat) + 3.0) / 2.0), floor)

    return prior


def near(lon: float, lat: float, sigma_km: float, floor: float = -20.0) -> LogPrior:
    """A position known beforehand, as of a drone's last fix: normal by distance."""

    def prior(x: ArrayLike, y: ArrayLike) -> Floats:
        return _bounded(-0.5 * (sphere.distance(lon, lat, x, y) / sigma_km) ** 2, floor)

    return prior


def places(candidates: Iterable[tuple[float, float, float, float]], floor: float = -4.0) -> LogPrior:
    """The picture shows one of some places, as a caption names them: (lon, lat, weight, sigma_km) each; none: no prior.

    Weights are heights: a place is as likely at its middle as its weight says, however wide it is.
    """
    table = np.array(list(candidates), float).reshape(-1, 4)
    if not len(table):
        return both()
    x, y, weight, sigma = table.T
    sigma = np.maximum(sigma, NARROWEST_KM)

    def prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        km = sphere.distance(np.asarray(lon, float)[..., None], np.asarray(lat, float)[..., None], x, y)
        raw = np.log(weight / weight.max()) - 0.5 * (km / sigma) ** 2
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
    return np.asarray(np.logaddexp(raw, floor))
