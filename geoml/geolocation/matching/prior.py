"""A position known from elsewhere, such as a weak GPS fix or dead reckoning, with how far it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.ellipsoid import WGS84

SURE = 0.999
"""Share of the prior's mass that is searched; an answer outside of it contradicts the prior."""


@dataclass(frozen=True)
class Prior:
    """``lon``, ``lat`` in degrees; ``covariance`` of (east, north) in square metres, symmetric and positive definite.

    Raises InputError for a place that is none and a matrix that is no covariance.
    """

    lon: float
    lat: float
    covariance: tuple[tuple[float, float], tuple[float, float]]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lon) and -180 <= self.lon <= 180 and -90 <= self.lat <= 90):
            raise InputError(f"prior: {self.lon}, {self.lat} is no place; expected lon, lat in degrees")
        matrix = np.array(self.covariance, float)
        good = matrix.shape == (2, 2) and np.isfinite(matrix).all() and np.allclose(matrix, matrix.T)
        if not good or np.linalg.eigvalsh(matrix).min() <= 0:
            raise InputError(f"prior: {self.covariance} is no covariance; expected square metres, positive definite")

    @classmethod
    def circle(cls, lon: float, lat: float, metres: float) -> Prior:
        """The same standard deviation in all directions."""
        return cls(lon, lat, ((metres**2, 0.0), (0.0, metres**2)))

    def distance(self, lon: NDArray[np.floating], lat: NDArray[np.floating], more: float = 0.0) -> NDArray[np.float64]:
        """(N,) distances in standard deviations (Mahalanobis); ``more`` square metres are added to the variances."""
        east, north = _offset(self, np.asarray(lon, float), np.asarray(lat, float))
        both = np.stack([east, north], -1)
        inverse = np.linalg.inv(np.array(self.covariance) + more * np.eye(2))
        return np.asarray(np.sqrt(np.einsum("ni,ij,nj->n", both, inverse, both)))

    def reaches(
        self, lon: NDArray[np.floating], lat: NDArray[np.floating], metres: NDArray[np.floating] | float
    ) -> NDArray[np.bool_]:
        """Whether circles of ``metres`` around places touch the searched part; True in doubt."""
        east, north = _offset(self, np.asarray(lon, float), np.asarray(lat, float))
        length = np.hypot(east, north)
        nearer = np.maximum(0, 1 - np.asarray(metres) / np.maximum(length, 1e-9))
        both = np.stack([east * nearer, north * nearer], -1)
        inverse = np.linalg.inv(np.array(self.covariance))
        return np.asarray(np.einsum("ni,ij,nj->n", both, inverse, both) <= limit() ** 2)


def limit() -> float:
    """Standard deviations in two dimensions that hold ``SURE``: the root of -2 ln(1 - p)."""
    return math.sqrt(-2 * math.log(1 - SURE))


def _offset(
    prior: Prior, lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    azimuth, _, length = WGS84.inv(np.full_like(lon, prior.lon), np.full_like(lat, prior.lat), lon, lat)
    angle = np.radians(azimuth)
    return length * np.sin(angle), length * np.cos(angle)
