"""A position known from elsewhere, such as a weak GPS fix or dead reckoning, with how far it may be off.

What is known of a picture is the position of its list, else of its EXIF, where the recipe uses positions; where there
is none ``near`` of the recipe counts. None is further off than ``within_km``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.geolocation.pictures.prepare import PreparedPicture, Row
from geoml.geolocation.recipe import MapRecipe
from geoml.grid.ellipsoid import WGS84

SEARCHED = 0.999
"""Share of the prior's mass that is searched; an answer outside of it contradicts the prior."""
LIMIT = math.sqrt(-2 * math.log(1 - SEARCHED))
"""Standard deviations in two dimensions that hold ``SEARCHED``."""


@dataclass(frozen=True)
class Prior:
    """``lon``, ``lat`` in degrees; ``sigma`` metres, the standard deviation in all directions.

    Raises InputError for an invalid place and a deviation that is not positive.
    """

    lon: float
    lat: float
    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lon) and -180 <= self.lon <= 180 and -90 <= self.lat <= 90):
            raise InputError(f"prior: {self.lon}, {self.lat} is not a place; expected lon, lat in degrees")
        if not 0 < self.sigma < math.inf:
            raise InputError(f"prior: sigma {self.sigma}; expected metres, more than 0")

    def distance(self, lon: float, lat: float, more: float = 0.0) -> float:
        """How far away a place is, in standard deviations; ``more`` square metres are added to the variance."""
        return float(_metres(self, np.array([lon]), np.array([lat]))[0]) / math.sqrt(self.sigma**2 + more)

    def reaches(
        self, lon: NDArray[np.floating], lat: NDArray[np.floating], metres: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Whether circles of ``metres`` around places touch the searched part; True in doubt."""
        return np.asarray(_metres(self, lon, lat) - metres <= self.sigma * LIMIT)


def position_of(picture: PreparedPicture, recipe: MapRecipe) -> tuple[float, float] | None:
    """lon, lat in degrees where a picture is expected; None if nothing is known."""
    return (picture.position if "position" in recipe.use else None) or recipe.near


def prior_of(picture: PreparedPicture, recipe: MapRecipe) -> Prior | None:
    """The prior of a picture, whose searched part ends at ``within_km``."""
    position = position_of(picture, recipe)
    return None if position is None else Prior(*position, 1000 * recipe.within_km / LIMIT)


def request(recipe: MapRecipe) -> Row:
    """What is known, for a digest."""
    near = None if recipe.near is None else list(recipe.near)
    within_km = recipe.within_km if recipe.has_prior else None
    return {"position": "position" in recipe.use, "near": near, "within_km": within_km}


def _metres(prior: Prior, lon: NDArray[np.floating], lat: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) metres between the prior's place and (N,) others, on the ellipsoid."""
    _, _, length = WGS84.inv(np.full(len(lon), prior.lon), np.full(len(lat), prior.lat), lon, lat)
    return np.asarray(length)
