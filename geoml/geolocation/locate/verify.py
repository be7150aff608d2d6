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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoml.geolocation.density import priors, sun
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate import out_of_domain
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.pictures import lists as photo_lists
from geoml.geolocation.pictures.prepare import PreparedPicture, in_order
from geoml.geolocation.recipe import VerifyRecipe
from geoml.grid import sphere

UNCLAIMED = "no place is claimed for it: not asked, listed or in the EXIF"
DOUBT = 0.01
SUPPORTS, AGAINST = 10.0, 0.1
"""Likelihood ratios from which on a picture supports a claim, and below which it speaks against it."""
INSIDE, OUTSIDE = 0.9, 0.95
"""A claim that is supported lies in the region of 90 % of the probability; one that is spoken against not in 95 %."""

Floats = NDArray[np.float64]
Verdict = Literal["supports", "does not tell", "speaks against"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a picture is said to be taken: degrees, and km within which that would be right."""

    lon: float
    lat: float
    radius_km: float


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
    verdict: Verdict | None = None
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


def verify(
    sources: Iterable[str | Path],
    locator: Locator,
    recipe: VerifyRecipe | None = None,
) -> Iterator[Evidence]:
    """The evidence of each picture, in order.

    The claim is that of the recipe, else the position of the list, else that of the EXIF (then only the pixels are
    asked). A picture without a claim has the status ``refused``, one that the locator is not for ``abstained``. Raises
    InputError for sources that are none, NothingFound without a picture, ModelError for answers that are not
    finite.
    """
    recipe = recipe or VerifyRecipe()
    card = locator.card
    prior = training_density(locator) if recipe.prior == "training" else None
    for picture in in_order(photo_lists.pictures(sources), locator.extractor.size, lambda *_: b""):
        evidence = Evidence(picture.reference.id, picture.sha256, picture.status or "ok", picture.reason,
                            model_id=card.name, calibration_id=card.calibration.id)  # fmt: skip
        if picture.rgb is None:
            yield evidence
            continue
        claim, own = _claim(picture, recipe)
        if claim is None:
            yield replace(evidence, status="refused", reason=UNCLAIMED)
            continue
        features = locator.extractor(picture.rgb[None])
        (why,) = out_of_domain.reasons(locator, [picture], features)
        reason = "; ".join([*([why] if why else []), *picture.problems]) or None
        evidence = weigh_metadata(replace(evidence, reason=reason, claim=claim), claim, picture, own)
        if why is not None:  # its pixels say nothing for or against a place
            yield replace(evidence, status="abstained", verdict="does not tell")
        else:
            yield weigh(evidence, claim, locator.locate(features), prior)


def weigh(evidence: Evidence, claim: Claim, density: Density, prior: Density | None) -> Evidence:
    """The evidence with what a picture's density says of a claim, compared with the ``prior`` (None: uniform)."""
    uniform = float(sphere.cap_area(claim.radius_km)) / (4 * math.pi * sphere.EARTH_RADIUS_KM**2)
    before = uniform if prior is None else float(prior.within(claim.lon, claim.lat, claim.radius_km)[0])
    mass = float(density.within(claim.lon, claim.lat, claim.radius_km)[0])
    mixed, mixed_prior = ((1 - DOUBT) * m + DOUBT * uniform for m in (mass, before))
    ratio = math.log(mixed / mixed_prior)
    x, y = _circle(claim)
    level = float(density.level(x[None], y[None]).min())
    words: Verdict = "does not tell"
    if ratio >= math.log(SUPPORTS) and level <= INSIDE:
        words = "supports"
    elif ratio <= math.log(AGAINST) and level >= OUTSIDE:
        words = "speaks against"
    return replace(evidence, verdict=words, log_likelihood_ratio=ratio, percentile=level, within=mass, prior=before)


def weigh_metadata(evidence: Evidence, claim: Claim, picture: PreparedPicture, own: bool) -> Evidence:
    """The evidence with what the EXIF says of a claim; nothing of its position where that (``own``) is the claim."""
    exif = picture.exif
    if exif.lon is not None and exif.lat is not None and not own:
        km = float(sphere.distance(exif.lon, exif.lat, claim.lon, claim.lat))
        evidence = replace(evidence, exif_km=km, exif="agrees" if km <= claim.radius_km else "disagrees")
    if exif.offset is not None and -12 <= exif.offset <= 14:
        fits = float(priors.utc_offset(exif.offset)(claim.lon, claim.lat)) > -2.0
        evidence = replace(evidence, clock="agrees" if fits else "disagrees")
    time = exif.time or picture.reference.time
    if time is not None:
        evidence = replace(evidence, sun_deg=float(sun.elevation(time, claim.lon, claim.lat)))
    return evidence


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


def _claim(picture: PreparedPicture, recipe: VerifyRecipe) -> tuple[Claim | None, bool]:
    """(the claim of a picture, whether it is that of its own EXIF)."""
    if recipe.lon is not None and recipe.lat is not None:
        return Claim(recipe.lon, recipe.lat, recipe.radius_km), False
    if picture.position is None:
        return None, False
    return Claim(*picture.position, recipe.radius_km), picture.reference.lon is None


def _circle(claim: Claim) -> tuple[Floats, Floats]:
    """(17,) lon and lat: the middle of the claimed circle and two rings in it."""
    bearing = np.concatenate([[0.0], np.tile(np.arange(0.0, 360.0, 45.0), 2)])
    km = claim.radius_km * np.concatenate([[0.0], np.full(8, 0.5), np.ones(8)])
    lon, lat = sphere.destination(np.full(17, claim.lon), np.full(17, claim.lat), bearing, km)
    return np.asarray(lon), np.asarray(lat)
