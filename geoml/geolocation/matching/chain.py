"""From a coarse answer to a place on a map: a locator's cells, a STAC search there, its COGs, and a match among them.

Each picture gets the region that holds 90 % of its calibrated probability, or the circle of a prior position. Items
that show it become references, one for each cap of the region, since caps may lie on different continents; pictures
with the same items share them. What is accepted first, from the likeliest cap on, is the answer; else the locator's
stays, which is coarser, with the reason why there is no finer one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pystac
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.locate import answers, unlike
from geoml.geolocation.locate import locate as geolocate
from geoml.geolocation.locate.answers import Writer
from geoml.geolocation.locate.locate import Features
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.matching import grounds
from geoml.geolocation.matching import mosaic as reference
from geoml.geolocation.matching import rows as geolocate_map
from geoml.geolocation.matching import where as regions
from geoml.geolocation.matching.grounds import IndexedReference
from geoml.geolocation.matching.match import SIDE
from geoml.geolocation.matching.rows import MODEL, PACKAGES, PART, Known
from geoml.geolocation.matching.where import Region
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.ready import Pixels, Ready, Row, silent
from geoml.geolocation.pictures.resize import opencv
from geoml.geolocation.rows.map_schema import MORE
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write
from geoml.io.stac import search as stac
from geoml.io.stac.catalog import Catalog
from geoml.recipe import Query, digest
from geoml.redacted import bare

K = TypeVar("K")
V = TypeVar("V")

FORMAT = 4
"""Raised when rows are made in another way."""
NEWEST = 1000
"""Items of a search that are looked at: a global archive has tens of thousands of a cap."""
TOP = 5
"""Candidates and neighbours in a row of the locator."""
OPEN = 4
"""Grounds that are kept open, and searches whose items are kept."""


@dataclass(frozen=True)
class Search:
    """Where the maps come from: a catalog by name, file or URL, as `geoml.recipe.Query` has it. ``items`` is the most
    that one picture is matched to, ``asset`` the key of the file, ``scales`` as of
    `geoml.geolocation.matching.mosaic.index`."""

    catalog: str
    collection: str | None = None
    datetime: str = "../.."
    filter: str | None = None
    asset: str | None = None
    items: int = 12
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.items < 1:
            raise InputError(f"items: {self.items}; expected 1 or more")

    def found(self, catalog: Catalog, outline: MultiPolygon) -> list[pystac.Item]:
        """The `NEWEST` items that touch an outline, the newest first. Raises as `geoml.io.stac.search.search`."""
        west, south, east, north = outline.bounds
        query = Query(catalog=self.catalog, collection=self.collection, bbox=(west, south, east, north),
                      datetime=(self.datetime,), filter=self.filter, limit=NEWEST)  # fmt: skip
        return stac.search(catalog, query, outline, self.datetime)


def geolocate_chain(
    sources: Iterable[str | Path],
    search: Search,
    locator: Locator | None,
    out: str | Path,
    cache: Path | None = None,
    known: Known | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    ``cache`` keeps the references, by default in ``OUT.run``. Raises as `geoml.geolocation.rows.run.write`, InputError
    without a locator and anything known, for a locator of ground photos and for a search that cannot be meant,
    TransientError when the catalog or a file does not answer: then run it again.
    """
    known = known or Known()
    if locator is None and not known.any:
        raise InputError("model, use, near: none of them; expected a locator or something known of the places")
    if locator is not None and locator.card.kind != "overhead":
        raise InputError(f"model: {locator.card.name} is of ground photos; maps show the ground from above")
    catalog = stac.open_catalog(search.catalog)
    stac.parse_datetime(search.datetime)

    def start(folder: Path) -> _Chain:
        parts = RowParts(folder / "map-parts", MORE)
        return _Chain(search, catalog, locator, known, cache or folder / "references", parts)

    packages = PACKAGES if locator is None else (*PACKAGES, "torch")
    return write(sources, out, start, more=MORE, packages=packages, progress=progress)


class _Looked(NamedTuple):
    whole: list[Pixels]
    features: Features | None


class _Coarse(NamedTuple):
    """What is known of a picture before it is matched: its row if that is the answer, and where to look."""

    row: Row
    region: Region | None


class _Chain(PictureRows[_Looked]):
    def __init__(
        self, search: Search, catalog: Catalog, locator: Locator | None, known: Known, cache: Path, parts: RowParts
    ) -> None:
        super().__init__(parts, part=PART, size=locator.extractor.size if locator else 0, whole=SIDE)
        self.search, self.catalog, self.locator, self.known, self.cache = search, catalog, locator, known, cache
        self.open: OrderedDict[tuple[str, ...], IndexedReference | str] = OrderedDict()
        self.searched: OrderedDict[bytes, list[pystac.Item] | str] = OrderedDict()
        self.stages: Counter[str] = Counter()
        card = locator.card if locator else None
        named = answers.names_are_there()
        self.asked = {
            "format": FORMAT,
            "match": {"model": MODEL, "acceptance": grounds.VERSION, "reference": reference.VERSION,
                      "opencv": opencv().__version__},
            "model": {"id": card.name, "sha256": card.sha256, "calibration": card.calibration.id} if card else None,
            "search": {
                "catalog": bare(catalog.url), "collection": search.collection, "datetime": search.datetime,
                "filter": search.filter, "asset": search.asset, "items": search.items, "scales": list(search.scales),
            },
            "backbone": locator.extractor.tag if locator else None,
            "prior": geolocate_map.asked(known),
            "names": named and card is not None,
        }  # fmt: skip
        chosen = card.model_dump(mode="json", include={"calibration", "domain", "width_km"}) if card else {}
        self.digest = digest({**self.asked, **chosen})
        self.columns: Row = {"run_id": self.digest[:16]}
        self.writer = Writer(locator, None, TOP, named, self.columns) if locator else None

    def about(self) -> dict[str, Any]:
        return {**self.asked, "run_id": self.digest[:16]}

    def told(self) -> dict[str, Any]:
        return {**super().told(), "stages": dict(sorted(self.stages.items()))}

    def _counted(self, rows: list[Row], progress: Progress | None) -> list[Row]:
        self.stages.update(row["stage"] for row in rows if row.get("stage"))
        return super()._counted(rows, progress)

    def key(self, reference: Reference, sha256: str) -> bytes:
        return bytes.fromhex(digest([self.digest, sha256, self.known.told(reference), list(reference.problems)]))

    def look(self, pictures: Iterator[Ready]) -> _Looked:
        whole: list[Pixels] = []

        def noted() -> Iterator[Ready]:
            for picture in pictures:
                if picture.whole is not None:
                    whole.append(picture.whole)
                yield picture

        if self.locator is not None:
            return _Looked(whole, geolocate.seen(self.locator, noted()))
        return _Looked([p.whole for p in noted() if p.whole is not None], None)

    def without(self, picture: Ready) -> Row:
        return self.writer.without(picture) if self.writer else silent(picture, self.columns)

    def made(self, pictures: Sequence[Ready], looked: _Looked) -> list[Row]:
        coarse = self._coarse(pictures, looked.features)
        return [self._one(*given) for given in zip(pictures, looked.whole, coarse, strict=True)]

    def _one(self, picture: Ready, pixels: Pixels, coarse: _Coarse) -> Row:
        groups, why = self._items(coarse.region)
        told: Row = {"inliers": -1}
        count, refused = 0, None
        for items in groups:
            try:
                ground = kept(self.open, tuple(map(_name, items)), lambda items=items: self._ground(items))  # type: ignore[misc]
            except InputError as err:
                refused = err
                continue
            row = self._matched(picture, pixels, ground)
            if isinstance(row, str):
                why = why or row
            elif row["status"] == "ok":
                return row
            else:
                count += len(items)
                told = max(told, row, key=lambda r: r["inliers"])
        if refused is not None and not count and not why:
            raise refused
        if count:
            why = f"{told['reason'].split(';')[0]} in {count} items"
            coarse = coarse._replace(row={**coarse.row, "inliers": told["inliers"], "p_right": told["p_right"]})
        return {**coarse.row, "reason": "; ".join(t for t in (f"no match: {why}", coarse.row.get("reason")) if t)}

    def _coarse(self, pictures: Sequence[Ready], features: Features | None) -> list[_Coarse]:
        rows: list[Row]
        found: list[Region | None]
        if self.locator is not None and self.writer is not None and features is not None:
            density = self.locator.locate(features)
            why = unlike.reasons(self.locator, pictures, features)
            rows = self.writer.rows(pictures, density, self.locator.neighbours(features, TOP), why)
            rows = [{**row, "stage": "cells" if row["status"] == "ok" else None} for row in rows]
            likely = regions.credible(density, self.locator.card.calibration.within_km)
            found = [None if no else region for region, no in zip(likely, why, strict=True)]
        else:
            rows = [silent(p, self.columns) | _place(p) for p in pictures]
            found = [None] * len(rows)
        places = [self.known.place(p) for p in pictures]
        found = [regions.around(*at, self.known.within_km) if at else r for at, r in zip(places, found, strict=True)]
        return [_Coarse(row, region) for row, region in zip(rows, found, strict=True)]

    def _items(self, region: Region | None) -> tuple[list[list[pystac.Item]], str]:
        """(items to match with of each cap that has some, the likeliest first; why there are none)."""
        if region is None:
            return [], "no position is known"
        found = [kept(self.searched, c.wkb, lambda c=c: self._searched(c)) for c in region.caps]  # type: ignore[misc]
        cap_of: dict[str, int] = {}
        every: list[pystac.Item] = []
        for cap, items in enumerate(found):
            for item in items if isinstance(items, list) else []:
                if cap_of.setdefault(_name(item), cap) == cap:
                    every.append(item)
        taken = regions.chosen(every, region, self.search.items)
        groups = [[i for i in taken if cap_of[_name(i)] == cap] for cap in range(len(found))]
        why = next((items for items in found if isinstance(items, str)), "")
        return [g for g in groups if g], "" if taken else why

    def _searched(self, outline: MultiPolygon) -> list[pystac.Item] | str:
        """The items of a cap, or why there are none."""
        try:
            return self.search.found(self.catalog, outline)
        except (NothingFound, DataError) as err:
            return str(err)

    def _ground(self, items: list[pystac.Item]) -> IndexedReference | str:
        """The ground of these items, without those that have no such file, or why there is none."""
        specs, refused = [], None
        for item in items:
            try:
                specs.append(regions.file_of(item, self.catalog, self.search.asset))
            except (InputError, DataError) as err:
                refused = err
        try:
            if refused is not None and not specs:
                raise refused
            return grounds.of_files(specs, self.cache, self.search.scales)
        except (NothingFound, DataError) as err:
            return str(err)

    def _matched(self, picture: Ready, pixels: Pixels, ground: IndexedReference | str) -> Row | str:
        """The row of a picture on a ground, accepted or not, or why there is none."""
        if isinstance(ground, str):
            return ground
        try:
            row = geolocate_map.row(picture, pixels, ground, self.known.prior(picture))
        except (NothingFound, DataError) as err:
            return str(err)
        return row | {"model_id": MODEL, "gallery_sha256": ground.reference.key} | self.columns


def kept(store: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    """What is in the store, made if it is not there; the `OPEN` that were used last stay."""
    if key not in store:
        store[key] = make()
        if len(store) > OPEN:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]


def _name(item: pystac.Item) -> str:
    return f"{item.collection_id}/{item.id} {item.get_self_href()}"


def _place(picture: Ready) -> Row:
    told = {"status": "abstained", "reason": "; ".join(picture.problems), "localizable": False}
    return {**told, "exif_lon": picture.exif.lon, "exif_lat": picture.exif.lat}
