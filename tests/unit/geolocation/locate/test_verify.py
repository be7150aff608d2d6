"""Claims of places: what the mathematics of one blob says, and what made pictures say of right and wrong towns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoml.errors import InputError
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate.localizability import localizability
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.locate.verify import DOUBT, Claim, Evidence, training_density, verify, weigh
from geoml.geolocation.recipe import VerifyRecipe
from geoml.grid import sphere
from geoml.recipe import parse
from geoml.testing import pictures as made


@pytest.fixture(autouse=True)
def _cpu(machine: Callable[..., None]) -> None:
    machine(precision="fp32", device="cpu", threads=1)


def blob(lon: float, lat: float, km: float) -> Density:
    kappa = math.log(10) / (1 - math.cos(km / sphere.EARTH_RADIUS_KM))
    return Density(np.ones((1, 1)), sphere.to_xyz([lon], [lat]), np.array([kappa]))


def weighed(density: Density, prior: Density | None, claim: Claim) -> dict[str, Any]:
    return dataclasses.asdict(weigh(Evidence("a", None, "ok", None), claim, density, prior))


def test_the_ratio_is_that_of_two_masses_and_the_percentile_that_of_a_circle() -> None:
    density = blob(179.9, 60.0, 300.0)
    claim = Claim(-179.5, 60.0, 100.0)
    found = weighed(density, None, claim)
    share = (1 - math.cos(100 / sphere.EARTH_RADIUS_KM)) / 2
    mass = float(density.within(-179.5, 60.0, 100.0)[0])
    assert found["prior"] == pytest.approx(share, rel=1e-6)
    assert found["log_likelihood_ratio"] == pytest.approx(
        math.log(((1 - DOUBT) * mass + DOUBT * share) / ((1 - DOUBT) * share + DOUBT * share)), rel=1e-6
    )
    assert found["percentile"] < 0.02, "the middle lies within the claimed circle"
    away = float(sphere.distance(179.9, 60.0, 172.0, 60.0)) - 100
    far = weighed(density, None, Claim(172.0, 60.0, 100.0))
    expected = 1 - 10 ** -((1 - math.cos(away / sphere.EARTH_RADIUS_KM)) / (1 - math.cos(300 / sphere.EARTH_RADIUS_KM)))
    assert far["percentile"] == pytest.approx(expected, abs=0.02)


def test_words_need_a_ratio_and_a_place_and_are_bounded() -> None:
    density = blob(10.0, 50.0, 300.0)
    assert weighed(density, None, Claim(10.5, 50.2, 100.0))["verdict"] == "supports"
    against = weighed(density, None, Claim(-150.0, -40.0, 100.0))
    assert against["verdict"] == "speaks against"
    assert against["log_likelihood_ratio"] == pytest.approx(math.log(DOUBT), abs=0.01)
    assert weighed(blob(10.0, 50.0, 15000.0), None, Claim(10.0, 50.0, 100.0))["verdict"] == "does not tell"
    same = blob(10.0, 50.0, 300.0)
    assert weighed(density, same, Claim(10.0, 50.0, 100.0))["verdict"] == "does not tell", "all pictures are from there"


def test_right_and_wrong_towns_are_told_apart_and_grey_says_nothing(overhead: Locator, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 12)
    lon, lat = made.TOWNS[0]
    found = list(verify([tmp_path / "in"], overhead, VerifyRecipe(lon=lon, lat=lat, radius_km=100.0)))
    right, wrong = [found[0], found[6]], found[1:6] + found[7:]
    assert all(3 < math.exp(e.log_likelihood_ratio or 0) < 6.5 for e in right), "six towns: six to one is the most"
    assert {e.verdict for e in right} == {"does not tell"}
    assert sum(e.verdict == "speaks against" for e in wrong) >= 8
    found = list(verify([tmp_path / "in"], overhead, VerifyRecipe(lon=lon, lat=lat, radius_km=100.0, prior="uniform")))
    assert found[0].verdict == found[6].verdict == "supports"
    assert all(e.calibration_id == overhead.card.calibration.id for e in found)
    made.write(tmp_path / "grey.png", made.picture(None, 3))
    (grey,) = verify([tmp_path / "grey.png"], overhead, VerifyRecipe(lon=lon, lat=lat, radius_km=100.0))
    assert grey.verdict == "does not tell"
    assert not {"lon", "lat", "mode", "answer"} & {k for k in dataclasses.asdict(grey) if k != "claim"}, (
        "no place of its own"
    )


def test_the_prior_is_where_training_was(overhead: Locator) -> None:
    prior = training_density(overhead)
    assert prior is not None
    mass = [float(prior.within(lon, lat, 300.0)[0]) for lon, lat in made.TOWNS]
    assert sum(mass) > 0.9
    assert all(0.08 < m < 0.3 for m in mass)


def test_claims_of_lists_and_exif_and_what_the_exif_says(overhead: Locator, tmp_path: Path) -> None:
    exif = made.gps(2.35, 48.86, "2024:06:01 14:00:00", "+02:00")
    made.write(tmp_path / "a.jpg", made.picture(0, 5), exif=exif)
    made.write(tmp_path / "bare.jpg", made.picture(0, 6))
    (tmp_path / "claims.csv").write_text("path,lon,lat\na.jpg,139.7,35.7\nbare.jpg,,\nlost.jpg,0,0\n")
    first, bare, lost = verify([tmp_path / "claims.csv"], overhead)
    assert (first.exif, first.clock, first.verdict) == ("disagrees", "disagrees", "speaks against")
    assert first.exif_km == pytest.approx(float(sphere.distance(2.35, 48.86, 139.7, 35.7)))
    assert first.sun_deg is not None
    assert first.sun_deg == pytest.approx(22, abs=4) or first.sun_deg < 0, "noon in Paris is evening in Tokyo"
    assert (bare.status, lost.status) == ("refused", "unreadable")
    (own,) = verify([tmp_path / "a.jpg"], overhead, VerifyRecipe(prior="uniform"))
    assert (own.verdict, own.exif, own.clock) == ("supports", "absent", "agrees")
    (at,) = verify([tmp_path / "a.jpg"], overhead, VerifyRecipe(lon=2.4, lat=48.9, radius_km=20.0))
    assert at.exif == "agrees"
    for name, wrong in (("lon", (200.0, 0.0, 1.0)), ("lat", (0.0, 95.0, 1.0)), ("radius_km", (0.0, 0.0, 0.0))):
        with pytest.raises(InputError, match=f"{name}: Input should be"):
            parse(VerifyRecipe, dict(zip(("lon", "lat", "radius_km"), wrong, strict=True)), "geolocate verify")


def test_pictures_that_tell_their_place_score_high(overhead: Locator, tmp_path: Path) -> None:
    made.write(tmp_path / "in" / "a.jpg", made.picture(2, 5), exif=made.gps(2.35, 48.86))
    made.write(tmp_path / "in" / "b.png", made.picture(None, 6))
    (tmp_path / "in" / "c.jpg").write_bytes(b"")
    told, grey, broken = localizability([tmp_path / "in"], overhead)
    assert (told["words"], told["gps"]) == ("high", True)
    assert grey["score"] < 0.5 < told["score"]
    assert (broken["status"], broken["score"]) == ("unreadable", None)
    assert not {"lon", "lat"} & set(told)
