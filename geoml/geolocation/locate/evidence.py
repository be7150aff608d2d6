"""What is known of pictures beside their pixels, as priors over the components of their densities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError, unknown
from geoml.geolocation.density import priors
from geoml.geolocation.density.density import Density
from geoml.geolocation.density.priors import LogPrior
from geoml.geolocation.locate.heights import Heights
from geoml.geolocation.pictures.exif import Exif
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.ready import Ready

Floats = NDArray[np.float64]
USES = ("time", "text", "position", "altitude")
"""``time``: the time zone of the camera's clock, and daylight for pictures from above. ``text``: places that a caption
names. ``position``: that of the list, else of the EXIF, give or take ``sigma_km``. ``altitude``: that of the EXIF."""


@dataclass(frozen=True)
class Beside:
    """Which of `USES` enter the answer; none by default, so that an answer is that of the pixels alone."""

    use: tuple[str, ...] = ()
    sigma_km: float = 25.0
    heights: Heights | None = None

    def __post_init__(self) -> None:
        for name in self.use:
            if name not in USES:
                raise unknown("use", name, USES)
        if not self.sigma_km > 0:
            raise InputError(f"sigma_km: {self.sigma_km}; expected a positive number of km")
        if "altitude" in self.use and self.heights is None:
            raise InputError("use: altitude needs the ground's heights; give a raster of them in degrees")
        if "text" in self.use:
            from geoml.geolocation.locate.gazetteer import gazetteer

            gazetteer()  # its absence is told now, not at the first caption

    def told(self, reference: Reference) -> dict[str, Any]:
        """What of a reference enters the answer; the EXIF is part of the picture's bytes."""
        out: dict[str, Any] = {}
        if "time" in self.use and reference.time is not None:
            out["time"] = reference.time.isoformat()
        if "text" in self.use and reference.text:
            out["text"] = reference.text
        if "position" in self.use:
            out["position"] = [reference.lon, reference.lat]
        return out

    def prior(self, reference: Reference, exif: Exif, kind: Literal["overhead", "photo"]) -> LogPrior | None:
        """The log-prior of one picture; None where nothing is known of it."""
        found: list[LogPrior] = []
        if "time" in self.use:
            time = reference.time or exif.time
            if exif.offset is not None and -12 <= exif.offset <= 14:
                found.append(priors.utc_offset(exif.offset))
            if kind == "overhead" and time is not None:
                found.append(priors.daylight(time))
        if "text" in self.use and reference.text:
            from geoml.geolocation.locate.gazetteer import gazetteer, weighted

            if mentions := gazetteer().named(reference.text):
                found.append(priors.places(weighted(mentions)))
        if "position" in self.use:
            lon, lat = (reference.lon, reference.lat) if reference.lon is not None else (exif.lon, exif.lat)
            if lon is not None and lat is not None:
                found.append(priors.near(lon, lat, sigma_km=self.sigma_km))
        if "altitude" in self.use and exif.altitude is not None and self.heights is not None:
            found.append(priors.altitude(exif.altitude, self.heights))
        return priors.both(*found) if found else None

    def applied(self, density: Density, pictures: Sequence[Ready], kind: Literal["overhead", "photo"]) -> Density:
        """The densities of pictures with what is known beside their pixels."""
        each = [self.prior(p.reference, p.exif, kind) for p in pictures] if self.use else []
        return density.with_prior(_rows(each)) if any(each) else density


def _rows(each: Iterable[LogPrior | None]) -> Any:
    """One function for all pictures: (N, K) from centres (K,) that they share, or (N, K) of their own."""
    chosen = list(each)

    def log_prior(lon: Floats, lat: Floats) -> Floats:
        shared = lon.ndim == 1
        out = np.zeros((len(chosen), lon.shape[-1]))
        for i, prior in enumerate(chosen):
            if prior is not None:
                out[i] = prior(lon, lat) if shared else prior(lon[i], lat[i])
        return out

    return log_prior
