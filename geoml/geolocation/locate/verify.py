"""Does a picture fit the place where it is said to be taken? Evidence for or against, never a place of its own.

The likelihood ratio compares how much of the picture's density lies within the claimed circle with how much of the
prior does: the density of the places that trained the locator (by default, so that what is common in training proves
nothing), or the uniform one (always for a head without cells). Both are mixed with `DOUBT` of the uniform density, so
that a picture alone never says more than about 1 : 100 against a place. Words follow the scale of forensic science
(ENFSI guideline for evaluative reporting, 2015): below 10 nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError, unknown
from geoml.geolocation.density import priors, sun
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import unlike
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.exif import Exif
from geoml.geolocation.pictures.ready import Ready, in_order
from geoml.grid import sphere

DOUBT = 0.01
SUPPORTS, AGAINST = 10.0, 0.1
"""Likelihood ratios from which on a picture supports a claim, and below which it speaks against it."""
INSIDE, OUTSIDE = 0.9, 0.95
"""A claim that is supported lies in the region of 90 % of the probability; one that is spoken against not in 95 %."""

Floats = NDArray[np.float64]
Words = Literal["supports", "does not tell", "speaks against"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a picture is said to be taken: degrees, and km within which that would be right."""

    lon: float
    lat: float
    radius_km: float = 50.0

    def __post_init__(self) -> None:
        if not (-180 <= self.lon <= 180 and -90 <= self.lat <= 90):
            raise InputError(f"claim: lon {self.lon}, lat {self.lat}; expected degrees")
        if not 0 < self.radius_km <= 5000:
            raise InputError(f"radius: {self.radius_km}; expected up to 5000 km")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a picture says of a claim.

    ``log_likelihood_ratio`` is natural, ``percentile`` the share of the probability at places that are likelier than
    any of the claimed circle, ``within`` and ``prior`` the mass of picture and prior in it. ``exif_km`` is how far the
    EXIF position lies from the claim, ``exif`` is ``agrees``, ``disagrees`` or ``absent``; ``clock`` the same for the
    time zone of the camera's clock; ``sun_deg`` the sun's elevation at the claimed place and time, None without one.
    """

    image_id: str
    sha256: str | None
    status: str
    reason: str | None
    claim: Claim | None = None
    verdict: Words | None = None
    log_likelihood_ratio: float | None = None
    percentile: float | None = None
    within: float | None = None
    prior: float | None = None
    exif: str = "absent"
    exif_km: float | None = None
    clock: str = "absent"
    sun_deg: float | None = None
    model_id: str = ""
    calibration_id: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def verify(
    sources: Iterable[str | Path],
    locator: Locator,
    claim: Claim | None = None,
    radius_km: float = 50.0,
    prior: str = "training",
) -> Iterator[Evidence]:
    """The evidence of each picture, in order.

    The claim is ``claim``, else the position of the list, else that of the EXIF (then only the pixels are asked). A
    picture without a claim has the status ``refused``, one that the locator is not for ``abstained``. Raises as
    `geoml.geolocation.locate.locate.geolocate`.
    """
    Claim(0.0, 0.0, radius_km)
    if prior not in ("training", "uniform"):
        raise unknown("prior", prior, ("training", "uniform"))
    card = locator.card
    before = training_density(locator) if prior == "training" else None
    for picture in in_order(photo_lists.pictures(sources), locator.extractor.size, lambda *_: b""):
        about: dict[str, Any] = {"image_id": picture.reference.id, "sha256": picture.sha256, "model_id": card.name,
                                 "calibration_id": card.calibration.id}  # fmt: skip
        if picture.rgb is None:
            yield Evidence(status=picture.status, reason=picture.reason, **about)
            continue
        asked, own = _claim(picture, claim, radius_km)
        if asked is None:
            yield Evidence(
                status="refused", reason="no place is claimed for it: not asked, listed or in the EXIF", **about
            )
            continue
        features = locator.extractor(picture.rgb[None])
        (why,) = unlike.reasons(locator, [picture], features)
        reason = "; ".join([*([why] if why else []), *picture.problems]) or None
        if why is not None:  # its pixels say nothing for or against a place
            said = beside(picture, asked, own)
            yield Evidence(status="abstained", reason=reason, claim=asked, verdict="does not tell", **said, **about)
            continue
        density = locator.locate(features)
        found = weigh(density, before, asked) | beside(picture, asked, own)
        yield Evidence(status="ok", reason=reason, claim=asked, **found, **about)


def weigh(density: Density, prior: Density | None, claim: Claim) -> dict[str, Any]:
    """What the density of one picture says of a claim, beside the ``prior`` (None: uniform)."""
    uniform = float(sphere.cap_area(claim.radius_km)) / (4 * math.pi * sphere.EARTH_RADIUS_KM**2)
    before = uniform if prior is None else float(prior.within(claim.lon, claim.lat, claim.radius_km)[0])
    mass = float(density.within(claim.lon, claim.lat, claim.radius_km)[0])
    mixed, mixed_prior = ((1 - DOUBT) * m + DOUBT * uniform for m in (mass, before))
    ratio = math.log(mixed / mixed_prior)
    x, y = _circle(claim)
    level = float(density.level(x[None], y[None]).min())
    words: Words = "does not tell"
    if ratio >= math.log(SUPPORTS) and level <= INSIDE:
        words = "supports"
    elif ratio <= math.log(AGAINST) and level >= OUTSIDE:
        words = "speaks against"
    return {"verdict": words, "log_likelihood_ratio": ratio, "percentile": level, "within": mass, "prior": before}


def beside(picture: Ready, claim: Claim, own: bool) -> dict[str, Any]:
    """What the EXIF says of a claim; nothing of its position where that (``own``) is the claim."""
    exif: Exif = picture.exif
    out: dict[str, Any] = {}
    if exif.lon is not None and exif.lat is not None and not own:
        km = float(sphere.distance(exif.lon, exif.lat, claim.lon, claim.lat))
        out |= {"exif_km": km, "exif": "agrees" if km <= claim.radius_km else "disagrees"}
    if exif.offset is not None and -12 <= exif.offset <= 14:
        fits = float(priors.utc_offset(exif.offset)(claim.lon, claim.lat)) > -2.0
        out["clock"] = "agrees" if fits else "disagrees"
    time = exif.time or picture.reference.time
    if time is not None:
        out["sun_deg"] = float(sun.elevation(time, claim.lon, claim.lat))
    return out


def training_density(locator: Locator) -> Density | None:
    """Where the training pictures of a locator lie, one component for a cell; None for a head without cells."""
    cells = locator.cells()
    if cells is None:
        return None
    narrowest = 10.0  # km; a cell of one picture has no radius
    angle = np.maximum(cells.radius, narrowest) / sphere.EARTH_RADIUS_KM
    kappa = -math.log(0.1) / (1 - np.cos(angle))
    weight = np.maximum(cells.count.astype(float), 1e-3)
    return Density((weight / weight.sum())[None], cells.xyz, kappa)


def _claim(picture: Ready, claim: Claim | None, radius_km: float) -> tuple[Claim | None, bool]:
    """(the claim of a picture, whether it is that of its own EXIF)."""
    if claim is not None:
        return claim, False
    reference, exif = picture.reference, picture.exif
    if reference.lon is not None and reference.lat is not None:
        return Claim(reference.lon, reference.lat, radius_km), False
    if exif.lon is not None and exif.lat is not None:
        return Claim(exif.lon, exif.lat, radius_km), True
    return None, False


def _circle(claim: Claim) -> tuple[Floats, Floats]:
    """(17,) lon and lat: the middle of the claimed circle and two rings in it."""
    bearing = np.concatenate([[0.0], np.tile(np.arange(0.0, 360.0, 45.0), 2)])
    km = claim.radius_km * np.concatenate([[0.0], np.full(8, 0.5), np.ones(8)])
    lon, lat = sphere.destination(np.full(17, claim.lon), np.full(17, claim.lat), bearing, km)
    return np.asarray(lon), np.asarray(lat)
