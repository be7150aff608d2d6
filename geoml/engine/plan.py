"""The plan of a run: the items found, the blocks to do and the hash that says when a block is done.

A plan is made once, before a pixel is read, and written to ``OUT/.geoml/plan.json`` with ``OUT/sources.parquet``
beside it; every later step, in any process, reads it from there.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pystac
import shapely
from pydantic import Field
from shapely.geometry import MultiPolygon, box
from shapely.geometry.base import BaseGeometry

from geoml import models
from geoml.cube.harmonise import Transform
from geoml.engine.package import find, read_card
from geoml.engine.predict import chip_grid
from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.grid.plane import Block, Plane
from geoml.grid.region import blocks_of, from_bbox, from_geometry, plane_of, project, zones
from geoml.io import mlm, stac
from geoml.io.bands import select
from geoml.io.card import ModelCard
from geoml.io.regions import load_region
from geoml.io.remote import RunStore, is_url, run_store
from geoml.io.store import write_json
from geoml.recipe import Frozen, PredictRecipe, Query, digest, parse

STATE = ".geoml"
"""Folder of a run that holds its plan and the parts of unfinished outputs."""

MODEL = "model.json"
"""Copy of the model's card in the folder of a run."""

PROCESSING = ("s2:processing_baseline", "processing:version")
"""Properties that say which processing made an item."""

COARSER = 1.5
"""The finest band of a source may be at most this much coarser than the model's gsd."""


class Zone(Frozen):
    """One plane of the run with the part of the region that it covers (WKT, degrees)."""

    crs: str
    res: float
    anchor: float
    part: str

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


class Sample(Frozen):
    """What was measured on a sample of the region before any block: see `geoml.engine.sample`.

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
    model_path: str
    card: ModelCard
    collection: str = Field(description="id of the collection that was read")
    zones: tuple[Zone, ...]
    blocks: tuple[PlannedBlock, ...]
    dates: tuple[tuple[str, ...], ...] = Field(default=(), description="ids of the items of each date, where several")
    sample: Sample | None = None

    @property
    def output_id(self) -> str:
        """Id of the collection that the run writes."""
        return f"{self.card.name}-{self.hash[:12]}"

    def by_date(self, items: Sequence[pystac.Item]) -> list[list[pystac.Item]]:
        """``items`` of each date, first date first; one list for a model of one date."""
        return [[i for i in items if i.id in ids] for ids in map(set, self.dates)] or [list(items)]

    def block(self, planned: PlannedBlock) -> Block:
        return Block(self.zones[planned.zone].plane, self.recipe.block_size, planned.iy, planned.ix)

    def by_id(self) -> dict[str, PlannedBlock]:
        return {self.block(b).id: b for b in self.blocks}


def region_of_query(query: Query) -> MultiPolygon:
    """The region that a query asks for, in degrees."""
    return from_bbox(*query.bbox) if query.bbox else load_region(str(query.region))


def make_plan(
    recipe: PredictRecipe, found: Sequence[Sequence[pystac.Item]] | None = None
) -> tuple[Plan, list[pystac.Item]]:
    """Search, check that model and data fit, and cut the region into blocks: the plan and the items it uses.

    Reads no pixel. ``found`` are the items of each date that a search for the recipe found; None searches.

    Raises InputError, NothingFound, ModelError (bands, gsd or dates do not fit) or DataError (an item is broken).
    """
    card = read_card(recipe.model)
    if len(recipe.query.datetime) != card.dates:
        raise InputError(
            f"datetime: {len(recipe.query.datetime)} given; {card.name} takes {card.dates}, one --datetime each"
        )
    _check_order(recipe.query.datetime)
    if recipe.probabilities and models.calibrated(card.architecture):
        raise InputError(
            f"probabilities: {card.name} needs no training and has none; expected false, or a trained model"
        )
    chip_grid(card, recipe.join)
    region = region_of_query(recipe.query)
    catalog = stac.open_catalog(recipe.query.catalog)
    if found is None:
        found = [stac.search(catalog, recipe.query, region, when) for when in recipe.query.datetime]
    dates = [[i.id for i in those] for those in found]
    items = [i for those in found for i in those]
    if len({i.id for i in items}) < len(items):
        twice = next(i.id for n, i in enumerate(items) if i.id in {j.id for j in items[:n]})
        raise InputError(f"datetime: the item {twice} belongs to two of the dates; expected ranges that share none")
    collection = recipe.query.collection or items[0].collection_id or catalog.default_collection or ""
    _check_fit(items, card, catalog, collection)
    planes = _zones(recipe, region, card, items, catalog.profile(collection).anchor)
    blocks = list(_blocks(recipe, planes, card, found))
    if not blocks and card.dates > 1:
        counts = " and ".join(str(len(those)) for those in found)
        raise NothingFound(f"region: no block of it is covered on all {card.dates} dates; found {counts} items")
    if not blocks:
        raise NothingFound(f"region: none of the {len(items)} items found covers a block of it")
    plan = Plan(
        recipe=recipe,
        hash=digest([recipe.hash, card.sha256]),
        model_path=recipe.model if is_url(recipe.model) else str(find(recipe.model)),
        card=card,
        collection=collection,
        zones=tuple(planes),
        blocks=tuple(blocks),
        dates=tuple(map(tuple, dates)) if card.dates > 1 else (),
    )
    used = {key for block in blocks for key in block.items}
    return plan, [item for item in items if item.id in used]


def _check_order(dates: Sequence[str]) -> None:
    """Raise InputError unless each range ends before the next one begins."""
    spans = [stac.parse_datetime(when) for when in dates]
    for n, ((_, end), (start, _)) in enumerate(pairwise(spans)):
        if end is None or start is None or end >= start:
            raise InputError(
                f"datetime: {dates[n]!r} does not end before {dates[n + 1]!r} begins; expected the earlier date first, "
                "and ranges that do not overlap"
            )


def item_version(item: pystac.Item) -> str:
    """What changes when an item is made again under its id: ``updated``, else its time, and its processing baseline."""
    said = item.properties
    when = str(said.get("updated") or said.get("datetime"))
    with suppress(ValueError):  # one instant is written in many ways, also by a table that it went through
        when = dt.datetime.fromisoformat(when).astimezone(dt.UTC).isoformat()
    return " ".join([when, *(str(said[k]) for k in PROCESSING if said.get(k) is not None)])


def _check_fit(items: Sequence[pystac.Item], card: ModelCard, catalog: stac.Catalog, collection: str) -> None:
    """Design rule 7: what does not fit the card is refused with the reason."""
    profile = catalog.profile(collection)
    for item in items:
        try:
            specs = select(item, [b.name for b in card.bands], profile, catalog)
        except InputError as err:
            raise ModelError(f"{card.name} does not fit {collection or catalog.name}: {err}") from err
        # a model of 10 m may well take bands of 20 m beside those of 10 m, but not nothing else
        known = [s for s in specs if s.gsd]
        finest = min(known, key=lambda s: s.gsd or 0.0, default=None)
        if finest and finest.gsd and finest.gsd > card.gsd * COARSER:
            raise ModelError(
                f"{card.name} works at {card.gsd:g} m, but the finest band of {item.id} ({finest.name}) has "
                f"{finest.gsd:g} m; expected at most {card.gsd * COARSER:g} m"
            )


def _zones(
    recipe: PredictRecipe, region: MultiPolygon, card: ModelCard, items: Sequence[pystac.Item], phase: float
) -> list[Zone]:
    anchor: float = card.anchor
    if recipe.crs == "utm":
        parts: dict[str, MultiPolygon] = zones(region)
    elif recipe.crs == "data":
        found = {_code(i) for i in items}
        if len(found) != 1:
            raise InputError(
                f"crs: 'data' needs one CRS, the items have {', '.join(sorted(found))}; expected utm or EPSG:code"
            )
        parts = {found.pop(): region}
        anchor = _phase(items[0], card.gsd, phase or anchor)
    else:
        parts = {recipe.crs: region}
    planes = [(plane_of(crs, card.gsd, anchor), part) for crs, part in parts.items()]
    return [Zone(crs=p.crs, res=p.res, anchor=p.anchor, part=shapely.to_wkt(part, 9)) for p, part in planes]


def _projection(item: pystac.Item, field: str) -> object:
    """``proj:<field>`` of the item or of the first asset that has it."""
    places = [item.properties, *(a.extra_fields for a in item.assets.values())]
    return next((p[f"proj:{field}"] for p in places if p.get(f"proj:{field}") is not None), None)


def _code(item: pystac.Item) -> str:
    code, epsg = _projection(item, "code"), _projection(item, "epsg")
    if code is None and epsg is None:
        raise DataError(f"{item.id}: no proj:code in the item, so crs 'data' is not known; expected utm or EPSG:code")
    return str(code) if code is not None else f"EPSG:{epsg}"


def _phase(item: pystac.Item, gsd: float, default: float) -> float:
    """0.5 when the item's pixel centres fall on multiples of the gsd, 0.0 when its edges do."""
    transform = _projection(item, "transform")
    if not isinstance(transform, Sequence) or abs(abs(transform[0]) - gsd) > 1e-6 * gsd:
        return default
    x, y = (transform[2] / gsd) % 1, (transform[5] / gsd) % 1
    return 0.5 if abs(x - 0.5) < 1e-3 and abs(y - 0.5) < 1e-3 else 0.0


def _blocks(
    recipe: PredictRecipe, planes: Sequence[Zone], card: ModelCard, found: Sequence[Sequence[pystac.Item]]
) -> list[PlannedBlock]:
    """The blocks that items of every date touch."""
    grid = chip_grid(card, recipe.join)
    margin = grid.halo + grid.stride if grid.exact else grid.size  # pixels further away decide nothing
    regions = {}
    items = [i for those in found for i in those]
    dates = [{i.id for i in those} for those in found]
    for item in items:
        if item.geometry is None:
            raise DataError(f"{item.id}: the item has no geometry, so its place is not known")
        regions[item.id] = from_geometry(item.geometry)
    query = recipe.query.model_dump(mode="json", include={"filter"})
    options = recipe.model_dump(mode="json", exclude={"query", "block_size", "max_failed", "min_area", "simplify"})
    versions = {i.id: item_version(i) for i in items}
    out = []
    for n, zone in enumerate(planes):
        plane, outlines = zone.plane, {}
        for key, geometry in regions.items():
            outline = project(geometry, plane.crs)
            if np.isfinite(shapely.bounds(outline)).all():
                outlines[key] = outline
                shapely.prepare(outline)
        for block in blocks_of(zone.geometry, plane, recipe.block_size):
            near = box(*plane.bounds(block.window.expand(margin)))
            here = box(*plane.bounds(block.window))
            used = tuple(k for k, o in outlines.items() if o.intersects(near))
            inside = {k for k in used if outlines[k].intersects(here)}
            if not all(inside & ids for ids in dates):
                continue
            what = [card.sha256, options, query, block.id, zone.part, [(k, versions[k]) for k in used]]
            out.append(PlannedBlock(zone=n, iy=block.iy, ix=block.ix, items=used, hash=digest(what)))
    return out


def write_plan(plan: Plan, items: Sequence[pystac.Item], out: str | Path | RunStore) -> None:
    """Write ``.geoml/plan.json`` and ``sources.parquet``; the plan last, for it says that the folder is ready."""
    store = run_store(out)
    out = store.local
    write_json(out / MODEL, mlm.to_item(plan.card).to_dict(include_self_link=False))
    stac.write_items(items, out / "sources.parquet", catalog=stac.open_catalog(plan.recipe.query.catalog))
    write_json(out / STATE / "plan.json", plan.model_dump(mode="json"))
    store.push(MODEL, "sources.parquet", f"{STATE}/plan.json")


def read_plan(out: str | Path | RunStore) -> Plan:
    """The plan of a run; for one in a bucket the working copy gets it, the card and the sources.

    Raises InputError where there is none.
    """
    store = run_store(out)
    store.pull(f"{STATE}/plan.json", "sources.parquet", MODEL)
    path = store.local / STATE / "plan.json"
    try:
        return plan_of(path.read_bytes(), str(path))
    except FileNotFoundError as err:
        raise InputError(f"out: {store.url} holds no run; expected a folder that geoml predict wrote") from err


def plan_of(body: bytes, where: str) -> Plan:
    """The plan that ``plan.json`` holds. Raises InputError when it is damaged."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise InputError(f"out: {where} is damaged ({err}); expected the plan of a run") from err
    return parse(Plan, value, where)
