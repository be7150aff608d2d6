"""The plan of a run: the items found, the blocks to do and the hash that says when a block is done.

A plan is made once, before a pixel is read, and written to ``OUT/.geoml/plan.json`` with ``OUT/sources.parquet``
beside it; every later step, in any process, reads it from there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import shapely
from pydantic import Field
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from geoml.cube.harmonise import Transform
from geoml.cube.region import count_inside
from geoml.engine.contract import Input, input_of, output_of
from geoml.engine.inference.lattice import grid_of
from geoml.engine.packages import cards
from geoml.engine.run.band_units import check_units, converts
from geoml.engine.run.data_crs import data_crs
from geoml.engine.run.search import region_of
from geoml.errors import DataError, GeomlError, InputError, ModelError, NothingFound
from geoml.fields import unhashed
from geoml.grid.plane import Block, Plane
from geoml.grid.region import blocks_of, from_geometry, plane_of, project, zones
from geoml.io.cards import mlm
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.io.stac.bands import select
from geoml.io.stac.left_out import with_left_out
from geoml.io.stac.query import check_query
from geoml.io.stac.times import instant
from geoml.io.stac.usable import require_any, usable
from geoml.io.stores.remote import RunStore, is_url, run_store
from geoml.io.stores.store import read_small, write_json
from geoml.recipe import Frozen, Place, PredictRecipe, digest, parse
from geoml.redacted import bare

STATE = ".geoml"
"""Folder of a run that holds its plan and the parts of unfinished outputs."""

PART = f"{STATE}/parts/{{}}.parquet"
"""What a block leaves for the tables of the run, by its id."""

MODEL = "model.json"
"""Copy of the model's card in the folder of a run."""

PROCESSING = ("s2:processing_baseline", "processing:version")
"""Properties that say which processing made an item."""


class Zone(Frozen):
    """One plane of the run with the part of the region that it covers (WKT, degrees)."""

    crs: str
    res: float
    anchor: float
    part: str
    pixels: int | None = Field(default=None, description="of the part, also where no item is; None in older plans")

    @property
    def plane(self) -> Plane:
        return Plane(self.crs, self.res, self.anchor)

    @property
    def geometry(self) -> BaseGeometry:
        return shapely.from_wkt(self.part)


class PlannedBlock(Frozen):
    """A block with the items that touch it, in the order they were found."""

    zone: int
    iy: int
    ix: int
    items: tuple[str, ...]
    hash: str = Field(
        description="of model, items, grid, region part and parameters: the block is done when its item has it"
    )


class SelfChange(Frozen):
    """Shares called changed although there is one date only: of each in the place of all, and their mean."""

    share: float
    dates: tuple[float, ...]


class RegionSample(Frozen):
    """What was measured on a sample of the region before any block: see `geoml.engine.run.sample`.

    ``shifts`` (dy, dx) in pixels and ``transforms`` of physical values are those of each later date against the first.
    """

    key: str = Field(description="of the plan that it was measured for")
    squares: int
    pixels: int
    shifts: tuple[tuple[float, float] | None, ...] = ()
    transforms: tuple[Transform | None, ...] = ()
    limits: tuple[tuple[float, float], ...] = Field(
        default=(), description="2nd and 98th percentile of each band on all dates, for pictures"
    )
    model: str = Field(default="", description="sha256 of the calibrated weights")
    self_change: SelfChange | None = None
    warnings: tuple[str, ...] = Field(default=(), description="what a reader of the map has to know")


class Plan(Frozen):
    """Everything that the later steps need to know."""

    recipe: PredictRecipe
    hash: str
    model_path: Place
    card: MapCard
    collection: str = Field(description="id of the collection that was read")
    zones: tuple[Zone, ...]
    blocks: tuple[PlannedBlock, ...]
    dates: tuple[tuple[str, ...], ...] = Field(default=(), description="ids of the items of each date, where several")
    sample: RegionSample | None = None
    units: dict[str, str] = Field(default_factory=dict, description="what happens to the unit of each band, in words")
    left_out: dict[str, str] = Field(default_factory=dict, description="items found that cannot be used -> why")

    @property
    def output_id(self) -> str:
        """Id of the collection that the run writes."""
        return f"{self.card.name}-{self.hash[:12]}"

    def by_date(self, items: Sequence[pystac.Item]) -> list[list[pystac.Item]]:
        """``items`` of each date, first date first; one list for a model of one date."""
        return [[i for i in items if i.id in ids] for ids in map(set, self.dates)] or [list(items)]

    def block(self, planned: PlannedBlock) -> Block:
        return Block(self.zones[planned.zone].plane, self.recipe.block_size, planned.iy, planned.ix)

    @property
    def pixels(self) -> int | None:
        """Pixels of the region, also where no item is; None in plans that an older geoml made."""
        counts = [z.pixels for z in self.zones]
        return None if None in counts else sum(n or 0 for n in counts)

    def by_id(self) -> dict[str, PlannedBlock]:
        return {self.block(b).id: b for b in self.blocks}


def check(recipe: PredictRecipe, *, dates: bool = True) -> tuple[MapCard, MultiPolygon, stac.Catalog]:
    """What can be told of a recipe before a search: model, region and catalog, which are given, and what does not fit.

    ``dates=False`` leaves the dates alone. Raises InputError, ModelError.
    """
    card, query = cards.read(recipe.model, MapCard), recipe.query
    reads = input_of(card, recipe)
    if dates:
        reads.check(query.datetime)
    grid_of(card, output_of(card, recipe), recipe.join, tta=recipe.tta)
    region = region_of(query)
    if recipe.crs not in ("utm", "data"):
        plane_of(recipe.crs, card.gsd, card.anchor)
    catalog = stac.open_catalog(query.catalog)
    check_query(catalog, query, region, query.datetime[-1] if dates else "../..")
    return card, region, catalog


def make_plan(
    recipe: PredictRecipe, found: Sequence[Sequence[pystac.Item]] | None = None
) -> tuple[Plan, list[pystac.Item]]:
    """Search, check that model and data fit, and cut the region into blocks: the plan and the items it uses.

    Reads no pixel. ``found`` are the items of each date that a search for the recipe found; None searches. Items that
    cannot be used are left out, see ``Plan.left_out``; with ``query.strict`` they are an error.

    Raises InputError, NothingFound, ModelError (bands, gsd or dates do not fit) or DataError (an item is broken), these
    two where no item of a date can be used.
    """
    card, region, catalog = check(recipe)
    left, reads = stac.LeftOut(recipe.query.strict), input_of(card, recipe)
    if found is None:
        found = _searched(recipe, reads, region, catalog, left)
    first = next(i for those in found for i in those)
    collection = recipe.query.collection or first.collection_id or catalog.default_collection or ""
    if reads.every:
        found = [_fitting(those, card, recipe, catalog, collection, left) for those in found]
    else:
        kept = {i.id for i in _fitting([i for n in found for i in n], card, recipe, catalog, collection, left)}
        found = [[i for i in those if i.id in kept] for those in found]
    dates = [[i.id for i in those] for those in found]
    items = [i for those in found for i in those]
    if len({i.id for i in items}) < len(items):
        twice = next(i.id for n, i in enumerate(items) if i.id in {j.id for j in items[:n]})
        raise InputError(f"datetime: the item {twice} belongs to two of the dates; expected ranges that share none")
    profile = catalog.profile(collection)
    specs = [select(i, [b.name for b in card.bands], profile, catalog) for i in items]
    units = check_units(card, specs, collection or catalog.name)
    into = [b.unit for b in card.bands] if converts(card, specs) else []  # other units, other pixels
    planes = _zones(recipe, region, card, items, catalog, collection)
    cuts = [blocks_of(z.geometry, z.plane, recipe.block_size) for z in planes]
    blocks = list(_blocks(recipe, planes, cuts, card, found, into, every=reads.every))
    if not blocks and reads.every and len(found) > 1:
        counts = " and ".join(str(len(those)) for those in found)
        raise NothingFound(f"region: no block of it is covered on all {card.dates} dates; found {counts} items")
    if not blocks:
        raise NothingFound(f"region: none of the {len(items)} items found covers a block of it")
    plan = Plan(
        recipe=recipe,
        hash=digest([recipe.hash, card.sha256, *into]),
        model_path=recipe.model if is_url(recipe.model) else str(cards.find(recipe.model)),
        card=card,
        collection=collection,
        zones=tuple(
            z.model_copy(update={"pixels": count_inside(z.geometry, z.plane, cut)})
            for z, cut in zip(planes, cuts, strict=True)
        ),
        blocks=tuple(blocks),
        dates=tuple(map(tuple, dates)) if len(dates) > 1 else (),
        units=units,
        left_out=left.items,
    )
    used = {key for block in blocks for key in block.items}
    return plan, [item for item in items if item.id in used]


def _searched(
    recipe: PredictRecipe, reads: Input, region: MultiPolygon, catalog: stac.Catalog, left: stac.LeftOut
) -> list[list[pystac.Item]]:
    """The items of each date.

    Raises NothingFound for a date without items and DataError for one whose items cannot be used, where the input needs
    every date or no other has any; InputError for a wrong query, TransientError when the catalog does not answer.
    """
    found: list[list[pystac.Item]] = []
    errors: list[GeomlError] = []
    for when in recipe.query.datetime:
        try:
            found.append(stac.search(catalog, recipe.query, region, when, left))
        except (NothingFound, DataError) as err:
            if reads.every or not (isinstance(err, NothingFound) or err.left_out):
                raise
            left.items |= err.left_out
            found.append([])
            errors.append(err)
    if errors and not any(found):
        raise errors[0]
    return found


def item_version(item: pystac.Item) -> str:
    """What changes when an item is made again under its id: ``updated``, else its time, and its processing baseline."""
    said = item.properties
    when = str(said.get("updated") or said.get("datetime"))
    with suppress(ValueError):  # one instant is written in many ways, also by a table that it went through
        when = instant(when).isoformat()
    return " ".join([when, *(str(said[k]) for k in PROCESSING if said.get(k) is not None)])


def _fitting(
    items: Sequence[pystac.Item],
    card: MapCard,
    recipe: PredictRecipe,
    catalog: stac.Catalog,
    collection: str,
    left: stac.LeftOut,
) -> list[pystac.Item]:
    """The items of a date that the model can take. Design rule 7: when none fits the card, that is refused."""
    names, mine = [b.name for b in card.bands], stac.LeftOut(left.strict)
    where = f"{card.name} does not fit {collection or catalog.name}"
    profile = catalog.profile(collection)
    try:
        kept = require_any(usable(items, names, profile, catalog, mine, mask=recipe.mask, gsd=card.gsd), mine, where)
    except InputError as err:  # a band that is not there: it is the model that asks for it
        raise with_left_out(ModelError(str(err) if mine.items else f"{where}: {err}"), mine) from err
    left.update(mine)
    return kept


def _zones(
    recipe: PredictRecipe,
    region: MultiPolygon,
    card: MapCard,
    items: Sequence[pystac.Item],
    catalog: stac.Catalog,
    collection: str,
) -> list[Zone]:
    anchor: float = card.anchor
    if recipe.crs == "utm":
        parts: dict[str, MultiPolygon] = zones(region)
    elif recipe.crs == "data":
        profile = catalog.profile(collection)
        known = [(i, select(i, [card.bands[0].name], profile, catalog)[0]) for i in items]
        crs, anchor = data_crs(known, card.gsd, profile.anchor or anchor)
        parts = {crs: region}
    else:
        parts = {recipe.crs: region}
    planes = [(plane_of(crs, card.gsd, anchor), part) for crs, part in parts.items()]
    return [Zone(crs=p.crs, res=p.res, anchor=p.anchor, part=shapely.to_wkt(part, 9)) for p, part in planes]


def _blocks(
    recipe: PredictRecipe,
    planes: Sequence[Zone],
    cuts: Sequence[Sequence[Block]],
    card: MapCard,
    found: Sequence[Sequence[pystac.Item]],
    into: Sequence[str | None],
    *,
    every: bool,
) -> list[PlannedBlock]:
    """Of the blocks that each zone is cut into, those that items of ``every`` date touch, or of any.

    ``into`` are the units that values are converted to, if any are.
    """
    grid = grid_of(card, output_of(card, recipe), recipe.join)
    margin = grid.halo + grid.stride if grid.exact else grid.size  # pixels further away decide nothing
    regions = {}
    items = [i for those in found for i in those]
    dates = [{i.id for i in those} for those in found]
    for item in items:
        regions[item.id] = from_geometry(item.geometry or {})
    query = recipe.query.model_dump(mode="json", include={"filter"})
    options = recipe.model_dump(mode="json", exclude={"query", *unhashed(PredictRecipe), "min_area", "simplify"})
    versions = {i.id: item_version(i) for i in items}
    out = []
    for n, (zone, blocks) in enumerate(zip(planes, cuts, strict=True)):
        plane, outlines = zone.plane, {}
        for key, geometry in regions.items():
            outline = project(geometry, plane.crs)
            if np.isfinite(shapely.bounds(outline)).all():
                outlines[key] = outline
                shapely.prepare(outline)
        for block in blocks:
            near = box(*plane.bounds(block.window.expand(margin)))
            here = box(*plane.bounds(block.window))
            used = tuple(k for k, o in outlines.items() if o.intersects(near))
            inside = {k for k in used if outlines[k].intersects(here)}
            if not (all if every else any)(inside & ids for ids in dates):
                continue
            what: list[object] = [card.sha256, options, query, block.id, zone.part, [(k, versions[k]) for k in used]]
            what += [list(into)] if into else []
            out.append(PlannedBlock(zone=n, iy=block.iy, ix=block.ix, items=used, hash=digest(what)))
    return out


def write_plan(plan: Plan, items: Sequence[pystac.Item], out: str | Path | RunStore) -> None:
    """Write ``.geoml/plan.json`` and ``sources.parquet``; the plan last, for it says that the folder is ready."""
    store = run_store(out)
    out = store.local
    write_json(out / MODEL, mlm.to_item(plan.card).to_dict(include_self_link=False))
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    stac.write_items(items, out / "sources.parquet", catalog=catalog, left_out=plan.left_out)
    write_json(store.inside(f"{STATE}/plan.json"), plan.model_dump(mode="json"))
    store.push(MODEL, "sources.parquet", f"{STATE}/plan.json")


def read_plan(out: str | Path | RunStore) -> Plan:
    """The plan of a run; for one in a bucket the working copy gets it, the card and the sources.

    Raises InputError where there is none.
    """
    store = run_store(out)
    store.pull(f"{STATE}/plan.json", "sources.parquet", MODEL)
    path = store.local / STATE / "plan.json"
    body = read_small(path)
    if body is None:
        raise InputError(f"out: {store.url} holds no run; expected a folder that geoml predict wrote")
    return plan_of(body, str(path))


def plan_of(body: bytes, where: str) -> Plan:
    """The plan that ``plan.json`` holds. Raises InputError when it is damaged."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise InputError(f"out: {where} is damaged ({err}); expected the plan of a run") from err
    return parse(Plan, _published(value), where)


def _published(value: Any) -> Any:
    """Older plans have URLs as they were given; those that are signed or have a user name lose that."""
    try:
        recipe, query = value["recipe"], value["recipe"]["query"]
        for part, key in ((value, "model_path"), (recipe, "model"), (query, "catalog"), (query, "region")):
            if isinstance(part.get(key), str):
                part[key] = bare(part[key])
    except (LookupError, TypeError, AttributeError):  # no plan; parsing says so
        pass
    return value
