"""What is known of pictures apart from their pixels, as priors over the components of their densities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geoml.errors import InputError
from geoml.geolocation.density import priors
from geoml.geolocation.density.density import Density
from geoml.geolocation.density.priors import LogPrior
from geoml.geolocation.locate import gazetteer, heights
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import PreparedPicture, Row
from geoml.geolocation.recipe import LocateRecipe

Floats = NDArray[np.float64]
Kind = Literal["overhead", "photo"]


class SideInformation:
    """What the recipe's ``use`` lets into the answer; nothing by default: then an answer is that of the pixels alone.

    ``time``: the time zone of the camera's clock, and daylight for pictures from above. ``text``: places that a caption
    names. ``position``: that of the list, else of the EXIF, give or take ``sigma_km``. ``altitude``: that of the EXIF.
    Raises InputError for altitudes without heights and for heights that cannot be read, MissingExtra for text without
    the gazetteer.
    """

    def __init__(self, recipe: LocateRecipe) -> None:
        self.use, self.sigma_km = recipe.use, recipe.sigma_km
        self.heights = None if recipe.heights is None else heights.read(recipe.heights)
        if "altitude" in self.use and self.heights is None:
            raise InputError("use: altitude needs the ground's heights; give a raster of them in degrees")
        if "text" in self.use:
            gazetteer.gazetteer()  # a missing package is an error now, not at the first caption

    def used(self, reference: Reference) -> Row:
        """What of a reference enters the answer; the EXIF is part of the picture's bytes."""
        out: Row = {}
        if "time" in self.use and reference.time is not None:
            out["time"] = reference.time.isoformat()
        if "text" in self.use and reference.text:
            out["text"] = reference.text
        if "position" in self.use:
            out["position"] = [reference.lon, reference.lat]
        return out

    def prior(self, picture: PreparedPicture, kind: Kind) -> LogPrior | None:
        """The log-prior of one picture; None if nothing is known of it."""
        reference, exif = picture.reference, picture.exif
        log_priors: list[LogPrior] = []
        if "time" in self.use:
            time = reference.time or exif.time
            if exif.offset is not None and -12 <= exif.offset <= 14:
                log_priors.append(priors.utc_offset(exif.offset))
            if kind == "overhead" and time is not None:
                log_priors.append(priors.daylight(time))
        if "text" in self.use and reference.text and (mentions := gazetteer.gazetteer().named(reference.text)):
            log_priors.append(priors.places(gazetteer.weighted(mentions)))
        if "position" in self.use and (position := picture.position) is not None:
            log_priors.append(priors.near(*position, self.sigma_km))
        if "altitude" in self.use and exif.altitude is not None and self.heights is not None:
            log_priors.append(priors.altitude(exif.altitude, self.heights))
        return priors.both(*log_priors) if log_priors else None

    def applied(self, density: Density, pictures: Sequence[PreparedPicture], kind: Kind) -> Density:
        """The densities of pictures, multiplied by their priors."""
        each = [self.prior(p, kind) for p in pictures] if self.use else []
        return density.with_prior(_of_rows(each)) if any(each) else density


def _of_rows(each: Sequence[LogPrior | None]) -> LogPrior:
    """One function for all pictures: (N, K) from centres (K,) that they share, or (N, K) of their own."""

    def log_prior(lon: ArrayLike, lat: ArrayLike) -> Floats:
        x, y = np.asarray(lon), np.asarray(lat)
        out = np.zeros((len(each), x.shape[-1]))
        for i, prior in enumerate(each):
            if prior is not None:
                out[i] = prior(x, y) if x.ndim == 1 else prior(x[i], y[i])
        return out

    return log_prior
