"""From a coarse answer to a place on a map: a locator's cells, a STAC search there, its COGs, and a match among them.

Each picture gets the region that holds 90 % of its calibrated probability, or the circle of a prior position. Items
that show it become references, one for each cap of the region, since caps may lie on different continents; pictures
with the same items share them. What is accepted first, from the likeliest cap on, is the answer; else the locator's
stays, which is coarser, with the reason why there is no finer one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pystac
from shapely.geometry import MultiPolygon

from geoml.cube.resize import opencv
from geoml.errors import DataError, InputError, NothingFound
from geoml.geolocation.locate import answers, out_of_domain
from geoml.geolocation.locate import locate as geolocate
from geoml.geolocation.locate.answers import AnswerWriter
from geoml.geolocation.locate.locate import Features
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.matching import mosaic, references, search_regions
from geoml.geolocation.matching import prior as priors
from geoml.geolocation.matching import rows as geolocate_map
from geoml.geolocation.matching.match import SIDE
from geoml.geolocation.matching.references import IndexedReference
from geoml.geolocation.matching.rows import MODEL, PACKAGES, PART
from geoml.geolocation.matching.search_regions import Region
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import Pixels, PreparedPicture, Row, row_without_answer
from geoml.geolocation.recipe import MapRecipe
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write
from geoml.geolocation.rows.schema import MAP_COLUMNS
from geoml.io.stac import search as stac
from geoml.io.stac.catalog import Catalog
from geoml.recipe import Query
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
"""References that are kept open, and searches whose items are kept."""


def geolocate_chain(
    sources: Iterable[str | Path],
    recipe: MapRecipe,
    locator: Locator | None,
    out: str | Path,
    cache: Path,
    progress: Progress | None = None,
) -> Row:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    ``cache`` keeps the references. Raises the errors of `geoml.geolocation.rows.run.write`,
    InputError without a locator and anything known, for a locator of ground photos and for a search that is not
    valid, TransientError if the catalog or a file does not answer: then run it again.
    """
    if locator is None and not recipe.has_prior:
        raise InputError("model, use, near: none given; expected a locator or a known position")
    if locator is not None and locator.card.kind != "overhead":
        raise InputError(f"model: {locator.card.name} is of ground photos; maps show the ground from above")
    catalog = stac.open_catalog(recipe.catalog or "")
    stac.parse_datetime(recipe.datetime)

    def start(folder: Path) -> _Chain:
        parts = RowParts(folder / "map-parts", MAP_COLUMNS)
        return _Chain(recipe, catalog, locator, cache, parts)

    packages = PACKAGES if locator is None else (*PACKAGES, "torch", *locator.extractor.backend.packages)
    return write(sources, out, start, more=MAP_COLUMNS, packages=packages, progress=progress)


class _Extracted(NamedTuple):
    whole: list[Pixels]
    features: Features | None


class _Coarse(NamedTuple):
    """What is known of a picture before it is matched: its row if that is the answer, and where to look."""

    row: Row
    region: Region | None


class _Chain(PictureRows[_Extracted]):
    def __init__(
        self, recipe: MapRecipe, catalog: Catalog, locator: Locator | None, cache: Path, parts: RowParts
    ) -> None:
        self.recipe, self.catalog, self.locator, self.cache = recipe, catalog, locator, cache
        self.open: OrderedDict[tuple[str, ...], IndexedReference | str] = OrderedDict()
        self.searched: OrderedDict[bytes, list[pystac.Item] | str] = OrderedDict()
        self.stages: Counter[str] = Counter()
        card = locator.card if locator else None
        named = answers.names_are_there()
        request: Row = {
            "format": FORMAT,
            "match": {"model": MODEL, "acceptance": references.VERSION, "reference": mosaic.VERSION,
                      "opencv": opencv().__version__},
            "model": {"id": card.name, "sha256": card.sha256, "calibration": card.calibration.id} if card else None,
            "search": {
                "catalog": bare(catalog.url), "collection": recipe.collection, "datetime": recipe.datetime,
                "filter": recipe.filter, "asset": recipe.asset, "items": recipe.items, "scales": list(recipe.scales),
            },
            "backbone": locator.extractor.tag if locator else None,
            "prior": priors.request(recipe),
            "names": named and card is not None,
        }  # fmt: skip
        size, more = (locator.extractor.size, locator.digested) if locator else (0, {})
        super().__init__(parts, request, more, part=PART, size=size, whole=SIDE)
        self.writer = AnswerWriter(locator, None, TOP, named, self.columns) if locator else None
        self.columns = self.writer.about if self.writer else self.columns

    def about(self) -> Row:
        return {**super().about(), "backend": self.locator.extractor.made_by if self.locator else None}

    def summary(self) -> Row:
        return {**super().summary(), "stages": dict(sorted(self.stages.items()))}

    def _counted(self, rows: list[Row], progress: Progress | None) -> list[Row]:
        self.stages.update(row["stage"] for row in rows if row.get("stage"))
        return super()._counted(rows, progress)

    def used(self, reference: Reference) -> list[float | None]:
        return geolocate_map.used(reference, self.recipe)

    def extract(self, pictures: Iterator[PreparedPicture]) -> _Extracted:
        whole: list[Pixels] = []

        def noted() -> Iterator[PreparedPicture]:
            for picture in pictures:
                if picture.whole is not None:
                    whole.append(picture.whole)
                yield picture

        if self.locator is not None:
            return _Extracted(whole, geolocate.features_of(self.locator, noted()))
        return _Extracted([p.whole for p in pictures if p.whole is not None], None)

    def answer(self, pictures: Sequence[PreparedPicture], extracted: _Extracted) -> list[Row]:
        coarse = self._coarse(pictures, extracted.features)
        return [self._one(*one) for one in zip(pictures, extracted.whole, coarse, strict=True)]

    def _one(self, picture: PreparedPicture, pixels: Pixels, coarse: _Coarse) -> Row:
        groups, why = self._items(coarse.region)
        best: Row = {"inliers": -1}
        count, refused = 0, None
        for items in groups:
            try:
                reference = memoised(self.open, tuple(map(_name, items)), partial(self._reference, items))
            except InputError as err:
                refused = err
                continue
            row = self._matched(picture, pixels, reference)
            if isinstance(row, str):
                why = why or row
            elif row["status"] == "ok":
                return row
            else:
                count += len(items)
                best = max(best, row, key=lambda r: r["inliers"])
        if refused is not None and not count and not why:
            raise refused
        if count:
            why = f"{best['reason'].split(';')[0]} in {count} items"
            coarse = coarse._replace(row={**coarse.row, "inliers": best["inliers"], "p_right": best["p_right"]})
        return {**coarse.row, "reason": "; ".join(t for t in (f"no match: {why}", coarse.row.get("reason")) if t)}

    def _coarse(self, pictures: Sequence[PreparedPicture], features: Features | None) -> list[_Coarse]:
        rows = [row_without_answer(p, self.columns) | _abstained(p) for p in pictures]
        regions: list[Region | None] = [None] * len(rows)
        if self.locator is not None and self.writer is not None and features is not None:
            density = self.locator.locate(features)
            foreign = out_of_domain.reasons(self.locator, pictures, features)
            rows = self.writer.rows(pictures, density, self.locator.neighbours(features, TOP), foreign)
            rows = [{**row, "stage": "cells" if row["status"] == "ok" else None} for row in rows]
            likely = search_regions.credible_regions(density, self.locator.card.calibration.within_km)
            regions = [None if why else region for region, why in zip(likely, foreign, strict=True)]
        for k, picture in enumerate(pictures):
            if (position := priors.position_of(picture, self.recipe)) is not None:
                regions[k] = search_regions.region_around(*position, self.recipe.within_km)
        return [_Coarse(row, region) for row, region in zip(rows, regions, strict=True)]

    def _items(self, region: Region | None) -> tuple[list[list[pystac.Item]], str]:
        """(items to match with of each cap that has some, the likeliest first; why there are none)."""
        if region is None:
            return [], "no position is known"
        by_cap = [memoised(self.searched, cap.wkb, partial(self._search, cap)) for cap in region.caps]
        cap_of: dict[str, int] = {}
        every: list[pystac.Item] = []
        for cap, items in enumerate(by_cap):
            for item in items if isinstance(items, list) else []:
                if cap_of.setdefault(_name(item), cap) == cap:
                    every.append(item)
        chosen = search_regions.choose_items(every, region, self.recipe.items)
        groups = [[i for i in chosen if cap_of[_name(i)] == cap] for cap in range(len(by_cap))]
        why = next((items for items in by_cap if isinstance(items, str)), "")
        return [g for g in groups if g], "" if chosen else why

    def _search(self, outline: MultiPolygon) -> list[pystac.Item] | str:
        """The `NEWEST` items that touch a cap, the newest first, or why there are none."""
        recipe = self.recipe
        query = Query(catalog=recipe.catalog or "", collection=recipe.collection, bbox=outline.bounds,
                      datetime=(recipe.datetime,), filter=recipe.filter, limit=NEWEST)  # fmt: skip
        try:
            return stac.search(self.catalog, query, outline, recipe.datetime)
        except (NothingFound, DataError) as err:
            return str(err)

    def _reference(self, items: list[pystac.Item]) -> IndexedReference | str:
        """The reference of these items, without those that have no such file, or why there is none."""
        specs, refused = [], None
        for item in items:
            try:
                specs.append(search_regions.file_of(item, self.catalog, self.recipe.asset))
            except (InputError, DataError) as err:
                refused = err
        try:
            if refused is not None and not specs:
                raise refused
            return references.of_files(specs, self.cache, self.recipe.scales)
        except (NothingFound, DataError) as err:
            return str(err)

    def _matched(self, picture: PreparedPicture, pixels: Pixels, reference: IndexedReference | str) -> Row | str:
        """The row of a picture on a reference, accepted or not, or why there is none."""
        if isinstance(reference, str):
            return reference
        try:
            row = geolocate_map.row(picture, pixels, reference, priors.prior_of(picture, self.recipe))
        except (NothingFound, DataError) as err:
            return str(err)
        return row | {"model_id": MODEL, "gallery_sha256": reference.key, "run_id": self.columns["run_id"]}


def memoised(store: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    """What is in the store, made if it is not there; the `OPEN` that were used last stay."""
    if key not in store:
        store[key] = make()
        if len(store) > OPEN:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]


def _name(item: pystac.Item) -> str:
    return f"{item.collection_id}/{item.id} {item.get_self_href()}"


def _abstained(picture: PreparedPicture) -> Row:
    row = {"status": "abstained", "reason": "; ".join(picture.problems), "localizable": False}
    return {**row, "exif_lon": picture.exif.lon, "exif_lat": picture.exif.lat}
