"""Prepare a run over blocks for heights from points: a catalog of the files, a package, and its recipe.

Files are opened for their headers only. The catalog lies in the folder of the run and names each file where it is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyproj
import pystac
import shapely

from geoml.cube.clouds.ground import FILTERS
from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.against import check_first
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages import cards, package
from geoml.engine.run.plan import STATE
from geoml.engine.run.search import search
from geoml.errors import DataError, GeomlError, InputError, NothingFound, unknown
from geoml.inputs.points import CATALOG, DELIVERED
from geoml.io.cards.elevation import OF_POINTS, HeightTerms
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.io.heights import height_shift, vertical_name
from geoml.io.points.files import EPT
from geoml.io.points.folder import SUFFIXES, clouds_below
from geoml.io.points.items import item_source, outline, source_item
from geoml.io.points.source import PointSource, open_source
from geoml.io.stac.items import write_catalog
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.search import open_catalog
from geoml.io.stores.bucket import is_bucket
from geoml.io.stores.claim import claim
from geoml.io.stores.hrefs import redact
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import PredictRecipe, Query, differences, parse
from geoml.redacted import bare

log = logging.getLogger(__name__)

ASKED: Final = "elevation.json"
"""In the folder of the run's state: what was asked, and which files were left out."""
PACKAGE: Final = "surfaces"
UNDATED: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The time of an item has to be one; that of a file elsewhere without a date is the same in each run."""
CLASSES: Final = (
    ClassInfo(value=0, name="other", color="#b0b0b0"),
    ClassInfo(value=1, name="building", color="#c0392b"),
)


def prepared(asked: ElevationRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of the run in ``out``, whose folder has its catalog and its package then.

    A file of a folder or a catalog that cannot be used is left out and named; one that was named is an error. Raises
    InputError for files that do not fit each other and for a folder with another run, NothingFound without a file, and
    what `open_source` raises.
    """
    if is_bucket(out):
        raise InputError(f"out: {out} is a bucket; a run of heights keeps its catalog beside it, expected a folder")
    folder = (claim(out, STATE).local / STATE).resolve()  # the same whoever asks from wherever
    asked = asked.model_copy(update={"points": tuple(map(absolute, asked.points))})
    check_same(asked, folder)
    sources, left = opened(asked)
    if asked.write_classes and any(s.kind == "ept" for s in sources):
        raise InputError("write_classes: an EPT has no file of points to write back; expected LAS, LAZ or COPC")
    crs, vertical = one_of(sources, "crs"), one_of(sources, "vertical")
    if crs is None:
        raise InputError("crs: not known; expected --crs, such as EPSG:28992")
    vertical, shift = on_datum(asked, sources, crs, vertical)
    check_first(asked, crs, vertical)
    items = [_item(source) for source in sorted(sources, key=lambda s: s.href)]
    catalog = write_catalog(items, folder / CATALOG, "clouds of points of a run")
    region = region_of(asked, [outline(s) for s in sources], folder)
    ground, weights = ground_by(asked.ground)
    terms = HeightTerms(
        layers=tuple(name for name in OF_POINTS if asked.buildings or name != "building"),
        vertical=vertical,
        vertical_name=name_of(vertical),
        shift=shift,
        ground=ground,
        package=weights,
        options={"reach": asked.reach},
    )
    write_package(terms, asked, folder / PACKAGE)
    write_json(within(folder, ASKED), {**asked.model_dump(mode="json"), "left_out": left})
    query = {"catalog": str(catalog), "collection": catalog.parent.name, "datetime": "../..", **region}
    run = {
        "model": str(folder / PACKAGE),
        "crs": crs,
        "block_size": asked.block_size,
        "min_area": asked.min_area,
        "features_format": asked.features_format,
        "query": query,
    }
    return parse(PredictRecipe, run, "elevation")


def absolute(place: str) -> str:
    """A place as a process with another working directory finds it."""
    return place if is_url(place) else str(Path(place).resolve())


def ground_by(name: str) -> tuple[str, str]:
    """What tells the ground, and the sha256 of its weights where it is a package. Raises InputError for another name,
    ModelError for a package of another kind."""
    known = [DELIVERED, *FILTERS.names()]
    if name in known:
        return name, ""
    if "/" not in name and name not in cards.names():
        raise unknown("ground", name, [*known, *cards.names(PointCard)])
    return str(cards.find(name).resolve()), cards.read(name, PointCard).sha256


def check_same(asked: ElevationRecipe, folder: Path) -> None:
    """Raise InputError if blocks of another run are done."""
    before = read_small(folder / ASKED)
    if before is None or not any((folder.parent / "items").glob("*.json")):
        return
    was = {k: v for k, v in json.loads(before).items() if k != "left_out"}
    if changes := differences(was, asked, ("check_points", "check_crs", "left_out", "write_classes", "block_size")):
        raise InputError(f"out: {folder.parent} contains different heights: {changes}; expected an empty folder")


def opened(asked: ElevationRecipe) -> tuple[list[PointSource], dict[str, str]]:
    """The sources, and why others are left out, by their place or item. Raises NothingFound if none has a point."""
    options = asked.crs, asked.vertical
    left: dict[str, str] = {}
    found: list[PointSource] = []
    first: GeomlError | None = None
    for name, named, open_one in candidates(asked, options, left):
        try:
            found.append(open_one())
        except (DataError, InputError) as err:
            if named:
                raise
            log.warning("left out: %s", err)
            left[name] = str(err)
            first = first or err
    found = list({s.href: s for s in found if s.count}.values())
    if not found:
        raise first or NothingFound("points: none of the files holds a point")
    return found, left


Candidate = tuple[str, bool, Callable[[], PointSource]]
"""Its name, whether it was named itself, and what opens it."""


def candidates(
    asked: ElevationRecipe, options: tuple[str | None, str | None], left: dict[str, str]
) -> Iterator[Candidate]:
    """The files that were named, and those of folders and catalogs. Items that cannot be placed go to ``left``.

    Files of this machine have `absolute` paths: the blocks may be read by a process that started elsewhere.
    """
    urls = [bare(text) for text in dict.fromkeys(asked.points) if is_url(text)]
    if twice := next((url for url in urls if urls.count(url) > 1), None):
        raise InputError(f"points: {twice} is named twice, with other queries; expected a path for each file")
    for text in asked.points:
        path = Path(text)
        if is_url(text) or not path.is_dir():
            yield redact(text), True, partial(open_source, text, *options)
            continue
        files = clouds_below(path, STATE)
        if not files:
            raise NothingFound(f"points: {text} has no file named {' or '.join(SUFFIXES)}, and no {EPT}")
        yield from ((redact(str(f)), False, partial(open_source, str(f), *options)) for f in files)
    if asked.catalog is not None:
        query = Query(
            catalog=asked.catalog,
            collection=asked.collection,
            bbox=asked.bbox,
            region=asked.region,
            datetime=(asked.datetime or "../..",),
        )
        catalog, out = open_catalog(asked.catalog), LeftOut(strict=False)
        for item in search(query, out):
            yield item.id, False, partial(_dated_source, item, partial(item_source, item, catalog, *options))
        left |= out.items


def _dated_source(item: pystac.Item, opened: Callable[[], PointSource]) -> PointSource:
    """The source of an item, of the day that the item says."""
    when = item.datetime or item.common_metadata.start_datetime
    source = opened()
    return source if when is None else replace(source, made=when.astimezone(dt.UTC).date().isoformat())


def one_of(sources: Sequence[PointSource], field: str) -> str | None:
    """What all sources say. Raises InputError if they differ."""
    found = {getattr(s, field): s.href for s in sources}
    if len(found) > 1:
        named = " and ".join(f"{str(value)[:60]} ({redact(href)})" for value, href in list(found.items())[:2])
        option = "crs" if field == "crs" else "vertical"
        raise InputError(f"{option}: files differ: {named}; expected one, run them separately")
    value: str | None = next(iter(found))
    return value


def on_datum(
    asked: ElevationRecipe, sources: Sequence[PointSource], crs: str, vertical: str | None
) -> tuple[str | None, dict[str, object]]:
    """The CRS of the heights that are asked for, and how those of the files become them; nothing where they stay.

    Raises InputError if it is not known above what the files are, and as `geoml.io.heights.height_shift`.
    """
    if asked.datum is None:
        return vertical, {}
    if vertical is None:
        raise InputError("datum: the files do not state the datum of their heights; expected --vertical too")
    left, bottom, right, top = np.array([s.bounds for s in sources]).T
    bounds = float(left.min()), float(bottom.min()), float(right.max()), float(top.max())
    shift = height_shift(crs, vertical, asked.datum, bounds)
    log.info("heights: %s", shift.description)
    return vertical_name(crs, asked.datum), asdict(shift)


def name_of(vertical: str | None) -> str:
    """The CRS of heights in words."""
    if vertical is None:
        return "not known"
    crs = pyproj.CRS.from_user_input(vertical)
    return f"the ellipsoid of {crs.name}" if crs.is_geographic else str(crs.name)


def _item(source: PointSource) -> pystac.Item:
    said = json.dumps({**source.as_plain(), "place": redact(source.href)}, sort_keys=True)
    version = hashlib.sha256(said.encode()).hexdigest()[:16]
    return source_item(source, item_name(source.href), _when(source), version)


def item_name(href: str) -> str:
    """A name for the item of a file, of its own name and of where it is."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(redact(href)).stem)[:80]
    return f"{stem}-{hashlib.sha256(redact(href).encode()).hexdigest()[:8]}"


def _when(source: PointSource) -> dt.datetime:
    """The day that the file, or its item, says it was made, else the time of its last change; of a file elsewhere that
    says none, `UNDATED`."""
    if source.made is not None:
        return dt.datetime.combine(dt.date.fromisoformat(source.made), dt.time(), dt.UTC)
    return changed_at(source.href)


def changed_at(href: str) -> dt.datetime:
    """When a file of this machine was changed last; `UNDATED` of one elsewhere."""
    return UNDATED if is_url(href) else dt.datetime.fromtimestamp(Path(href).stat().st_mtime, dt.UTC)


def write_package(terms: HeightTerms, asked: ElevationRecipe, folder: Path) -> None:
    """The package of a run that learns nothing: what it makes, and the identity."""
    layers = len(terms.layers)
    card = MapCard(
        name=Path(terms.ground).name if terms.kind == "points" else Path(asked.matching).stem,
        description="Heights that were computed, not learned.",
        task="elevation" if terms.kind == "points" else "stereo_elevation",
        architecture="given",
        config={"bands": 1, "dates": layers},
        bands=(Band(name="z"),),
        gsd=asked.res,
        dates=layers,
        chip_size=512,
        radius=0,
        classes=CLASSES,
        channels=layers,
        made=terms.model_dump(mode="json", exclude_defaults=True),
        float32=True,
    )
    package.save(package.build(card), card, folder)


def region_of(asked: ElevationRecipe, outlines: Sequence[shapely.Geometry], folder: Path) -> dict[str, object]:
    """What is asked, or all of the files."""
    if asked.bbox is not None:
        return {"bbox": asked.bbox}
    if asked.region is not None:
        return {"region": asked.region}
    path = within(folder, "region.geojson")
    shape = json.loads(shapely.to_geojson(shapely.union_all(outlines)))
    write_json(path, {"type": "Feature", "properties": {}, "geometry": shape})
    return {"region": str(path)}
