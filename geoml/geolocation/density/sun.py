"""Where the sun stands: NOAA's solar equations (https://gml.noaa.gov/grad/solcalc/solareqns.PDF and its spreadsheet).

After J. Meeus, Astronomical Algorithms, chapter 25; good to about 0.01° between the years 1900 and 2100.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError
from geoml.grid import sphere

_J2000 = dt.datetime(2000, 1, 1, 12, tzinfo=dt.UTC)


def subsolar(time: dt.datetime) -> tuple[float, float]:
    """(lon, lat) in degrees of the place with the sun overhead. Raises InputError for a time without a zone."""
    if time.tzinfo is None:
        raise InputError(f"time: {time} has no zone; expected UTC")
    days = (time - _J2000) / dt.timedelta(days=1)
    t = days / 36525
    long = 280.46646 + t * (36000.76983 + t * 0.0003032)
    anomaly = np.radians(357.52911 + t * (35999.05029 - 0.0001537 * t))
    eccentricity = 0.016708634 - t * (0.000042037 + 0.0000001267 * t)
    centre = (
        np.sin(anomaly) * (1.914602 - t * (0.004817 + 0.000014 * t))
        + np.sin(2 * anomaly) * (0.019993 - 0.000101 * t)
        + np.sin(3 * anomaly) * 0.000289
    )
    node = np.radians(125.04 - 1934.136 * t)
    apparent = np.radians(long + centre - 0.00569 - 0.00478 * np.sin(node))
    mean_tilt = 23 + (26 + (21.448 - t * (46.815 + t * (0.00059 - t * 0.001813))) / 60) / 60
    tilt = np.radians(mean_tilt + 0.00256 * np.cos(node))
    lat = np.degrees(np.arcsin(np.sin(tilt) * np.sin(apparent)))
    minutes = _equation_of_time(np.radians(long), anomaly, eccentricity, tilt)
    utc = time.astimezone(dt.UTC)
    hours = utc.hour + utc.minute / 60 + (utc.second + utc.microsecond / 1e6) / 3600 + minutes / 60
    return float(sphere.wrap(180 - 15 * hours)), float(lat)


def elevation(time: dt.datetime, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """Degrees of the sun's centre above the horizon, without refraction (0.5° at the horizon, 0.1° at 10°)."""
    return np.asarray(90.0 - np.degrees(sphere.distance(lon, lat, *subsolar(time)) / sphere.EARTH_RADIUS_KM))


def _equation_of_time(long: float, anomaly: float, eccentricity: float, tilt: float) -> float:
    """Minutes (W. M. Smart's series, as NOAA uses it)."""
    y = np.tan(tilt / 2) ** 2
    e = eccentricity
    value = (
        y * np.sin(2 * long)
        - 2 * e * np.sin(anomaly)
        + 4 * e * y * np.sin(anomaly) * np.cos(2 * long)
        - 0.5 * y * y * np.sin(4 * long)
        - 1.25 * e * e * np.sin(2 * anomaly)
    )
    return float(4 * np.degrees(value))
