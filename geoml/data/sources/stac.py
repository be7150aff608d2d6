"""Source ``stac``: images from a STAC search on the plane, as prediction reads them; polygons label some pixels.

A scene is a block of the plane for each split: with a split by label file the same block may serve two splits, with
disjoint labelled pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import ClassVar, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import Field
from scipy import ndimage
from shapely.geometry import MultiPolygon

from geoml.cube.load import load
from geoml.data.labels import VectorLabels, features, read_all
from geoml.data.recipe import ByLabel, RasterRecipe
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import SourceConfig
from geoml.data.target import Labels
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid import region as regions
from geoml.grid.plane import Block, Plane, blocks_touching
from geoml.io.cog.radiometry import check_offset
from geoml.io.stac.bands import BandSpec, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.search import open_catalog, search
from geoml.io.stac.times import time_of
from geoml.io.stac.usable import checked, require_any
from geoml.io.units import mismatch
from geoml.recipe import Phase, Place, Query, When

HELD_OUT = ("test", "val")


class Config(SourceConfig):
    """Images found by a STAC search and read on the plane as prediction does; polygons label some of the pixels.

    Several ``datetime`` are so many dates of a sample; the polygons then say what changed.
    """

    by_label: ClassVar[bool] = True
    converts: ClassVar[bool] = True
    later: ClassVar[tuple[str, ...]] = ("strict",)

    kind: Literal["stac"]
    catalog: Place
    collection: str | None = None
    datetime: When | tuple[When, ...] = Field(description="RFC 3339 instant or interval, or one for each date")
    bbox: tuple[float, float, float, float] | None = Field(default=None, description="by default around the labels")
    filter: str | None = None
    strict: bool = Field(
        default=False, description="treat an item that cannot be used as an error, instead of leaving it out"
    )
    labels: tuple[VectorLabels, ...]
    background: int | None = Field(default=None, description="class value of unlabelled pixels; None: unknown")
    mask: Literal["auto", "none"] = "auto"
    composite: Literal["first", "least_cloudy", "median", "mean"] = "least_cloudy"
    crs: str = Field(default="utm", description="utm or EPSG:code")
    anchor: Phase = Field(default=0.0, description="pixel phase of the plane, 0.0 or 0.5")
    block: int = Field(default=512, ge=32, description="side of a scene in pixels of the plane")

    @property
    def looks(self) -> int:
        return len(self.times)

    @property
    def phase(self) -> float:
        return self.anchor

    @property
    def times(self) -> tuple[str, ...]:
        """``datetime`` of each date."""
        return (self.datetime,) if isinstance(self.datetime, str) else self.datetime


@dataclass(frozen=True, eq=False)
class SourceContext:
    """What every scene of the source shares."""

    items: Sequence[Sequence[pystac.Item]]
    """Of each date."""
    catalog: Catalog
    profile: Profile
    source: Config
    recipe: RasterRecipe
    labels: Mapping[str, gpd.GeoDataFrame]
    """Split -> features with a label, in the CRS of the plane; one entry "" when the labels do not decide."""
    background: float | None
    """Label of what is not known otherwise."""
    units: tuple[str | None, ...]
    """Of each band, as the model is to see it."""


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every block (and split) that holds a label. Raises InputError, NothingFound, DataError."""
    kind = recipe.target
    background = None if source.background is None else kind.label("source.background", source.background)
    polygons = dict(zip((s.name for s in source.labels), read_all(source.labels, kind), strict=True))
    if len(polygons) != len(source.labels):
        raise InputError("source.labels: two entries have the same name")
    grouped = _by_split(polygons, recipe)
    whole = pd.concat([f.to_crs("EPSG:4326") for f in grouped.values()])
    west, south, east, north = source.bbox or whole.total_bounds.tolist()
    area = regions.from_bbox(west, south, east, north)
    catalog = open_catalog(source.catalog)
    query = Query(
        catalog=source.catalog,
        collection=source.collection,
        bbox=(west, south, east, north),
        datetime=source.times,
        filter=source.filter,
        strict=source.strict,
    )
    profile = catalog.profile(source.collection or catalog.default_collection)
    items = [_usable(search(catalog, query, area, time), source, recipe, catalog, profile) for time in source.times]
    wanted = _wanted(recipe, [select(item, recipe.bands, profile, catalog) for item in chain.from_iterable(items)])
    crs = regions.utm_crs((west + east) / 2, (south + north) / 2) if source.crs == "utm" else source.crs
    plane = Plane(crs, _units(crs, recipe.gsd, south, north), source.anchor)
    labels = {name: frame.to_crs(crs) for name, frame in grouped.items()}
    found = SourceContext(items, catalog, profile, source, recipe, labels, background, wanted)
    read_of = list(chain.from_iterable(items))
    when, by = months(read_of), platforms(read_of)
    out = []
    for split, frame in labels.items():
        for block in _blocks(plane, source, frame, area):
            name = f"{block.id}@{split}" if split else block.id
            read = partial(_read, found, block, split)
            out.append(LabelledScene(name, block.window.shape, read, block.geobox, split or None, (), wanted, when, by))
    if not out:
        raise NothingFound("source.labels: no label lies inside the bbox")
    return out


def _wanted(recipe: RasterRecipe, specs: Sequence[Sequence[BandSpec]]) -> tuple[str | None, ...]:
    """The recipe's unit of each band, else the one that all items have. Raises InputError if they do not fit."""
    out = []
    for name, want, column in zip(recipe.bands, recipe.band_units, zip(*specs, strict=True), strict=True):
        have = {s.unit for s in column}
        if why := mismatch(name, {h for h in have if h}, want):
            raise InputError(f"units: {why}; give the unit in the recipe")
        out.append(want if want or len(have) != 1 else have.pop())
    return tuple(out)


def _usable(
    items: Sequence[pystac.Item], source: Config, recipe: RasterRecipe, catalog: Catalog, profile: Profile
) -> list[pystac.Item]:
    """The items of a date that can be read and whose numbers are what they say; raises when there is none."""
    left = LeftOut(source.strict)
    kept = []
    for found in checked(items, recipe.bands, profile, catalog, left, mask=source.mask):
        try:
            check_offset(found.item, found.specs, profile)
        except DataError as err:
            left.add(found.item.id, err)
        else:
            kept.append(found.item)
    return require_any(kept, left, f"catalog {catalog.name}")


def months(items: Iterable[pystac.Item]) -> tuple[int, ...]:
    """Months (1 to 12) of the items that have a time."""
    return tuple(sorted({t.month for t in map(time_of, items) if t is not None}))


def platforms(items: Iterable[pystac.Item]) -> tuple[str, ...]:
    """What the items say of their platform."""
    return tuple(sorted({str(i.properties["platform"]) for i in items if i.properties.get("platform")}))


def _by_split(polygons: Mapping[str, gpd.GeoDataFrame], recipe: RasterRecipe) -> dict[str, gpd.GeoDataFrame]:
    """Polygons of each split where the split goes by label file, else all of them under "" (all in one CRS)."""
    split = recipe.split
    if not isinstance(split, ByLabel):
        return {"": pd.concat([f.to_crs("EPSG:4326") for f in polygons.values()], ignore_index=True)}
    out = {}
    for name in ("train", "val", "test"):
        wanted: tuple[str, ...] = getattr(split, name)
        if absent := [w for w in wanted if w not in polygons]:
            raise InputError(f"split.{name}: no labels called {absent}; there are {sorted(polygons)}")
        if wanted:
            out[name] = pd.concat([polygons[w].to_crs("EPSG:4326") for w in wanted], ignore_index=True)
    named = [w for part in ("train", "val", "test") for w in getattr(split, part)]
    if len(set(named)) != len(named):
        raise InputError(f"split: a label file is in two splits: {sorted(named)}")
    return out


def _units(crs: str, gsd: float, south: float, north: float) -> float:
    """The gsd in units of the CRS."""
    degrees = gsd / (111_320.0 * math.cos(math.radians((south + north) / 2)))
    return degrees if crs in ("EPSG:4326", "OGC:CRS84") else gsd


def _blocks(plane: Plane, source: Config, frame: gpd.GeoDataFrame, area: MultiPolygon) -> list[Block]:
    """Blocks that hold a label, or, with a background class, every block of the area."""
    if source.background is not None:
        return regions.blocks_of(area, plane, source.block)
    found: set[Block] = set()
    for bounds in frame.geometry.bounds.itertuples(index=False):
        found.update(blocks_touching(plane, source.block, plane.window(*bounds)))
    return sorted(found)


def _read(found: SourceContext, block: Block, split: str) -> Sample:
    geobox = block.geobox
    dates = [_date(found, items, geobox) for items in found.items]
    data = np.concatenate([values for values, _ in dates])
    valid = np.logical_and.reduce([known for _, known in dates])
    kind, target = found.recipe.target, _target(found.labels, split, geobox, found.recipe)
    if found.background is not None:
        target = kind.filled(target, found.background)
    return Sample.of(data, valid, target, kind)


def _date(
    found: SourceContext, items: Sequence[pystac.Item], geobox: GeoBox
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Physical values (band,y,x) of one date and where there are any."""
    mosaic = load(
        items,
        found.recipe.bands,
        geobox,
        profile=found.profile,
        catalog=found.catalog,
        mask=found.source.mask,
        composite=found.source.composite,
        units=found.units,
    )
    mosaic = mosaic.compute(scheduler="threads")
    data, count = mosaic["data"].to_numpy(), mosaic["valid_count"].to_numpy()
    scale, offset = (np.array(mosaic["data"].attrs[k], np.float32)[:, None, None] for k in ("scale", "offset"))
    values: NDArray[np.float32] = data.astype(np.float32) * scale + offset
    return values, count > 0


def _target(labels: Mapping[str, gpd.GeoDataFrame], split: str, geobox: GeoBox, recipe: RasterRecipe) -> Labels:
    """Labels of one split. Pixels that another split labels too are a leak, unless train has to keep a distance.

    Raises InputError for a pixel that two splits label, when ``split.buffer`` is 0; otherwise train gives way.
    """
    kind, how, (height, width) = recipe.target, recipe.split, geobox.shape
    mine = kind.of_features(features(labels[split]), geobox)
    if not isinstance(how, ByLabel):
        return mine
    for other in labels:
        if other == split:
            continue
        theirs = kind.labelled(kind.of_features(features(labels[other]), geobox), (height, width))
        if how.buffer == 0 and (shared := int((theirs & kind.labelled(mine, (height, width))).sum())):
            raise InputError(f"split: leak, {shared} pixels have labels in {split} and {other}; set split.buffer")
        # test gives way to nothing, val to test, train to both
        if how.buffer and other in HELD_OUT[: len(HELD_OUT) if split == "train" else HELD_OUT.index(split)]:
            reach = how.buffer / recipe.gsd
            mine = kind.only(mine, ndimage.distance_transform_edt(~theirs) > reach if theirs.any() else ~theirs)
    return mine
