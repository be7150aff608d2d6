"""The plan of a run: the items found, the blocks to do and the hash that tells when a block is done.

A plan is made once, before a pixel is read, and written to ``OUT/.geoml/plan.json`` with ``OUT/sources.parquet``
beside it; every later step, in any process, reads it from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pystac
import shapely
from pydantic import Field, PrivateAttr
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from geoml.cube.harmonise import Transform
from geoml.cube.numbers import Numbers, numbers_of
from geoml.cube.preview import shown
from geoml.cube.region import count_inside
from geoml.cube.spectra import of_spectra
from geoml.engine.contract import Input, input_of, output_of
from geoml.engine.inference.lattice import levels_of
from geoml.engine.packages import cards
from geoml.engine.run.band_units import check_units, converts
from geoml.engine.run.block_table import BlockTable
from geoml.engine.run.block_table import PlannedBlock as PlannedBlock
from geoml.engine.run.data_crs import data_crs
from geoml.engine.run.item_version import item_version as item_version
from geoml.engine.run.plan_blocks import planned_blocks
from geoml.engine.run.planned import card_of
from geoml.engine.run.search import region_of
from geoml.errors import DataError, GeomlError, InputError, ModelError, NothingFound
from geoml.grid.plane import Block, Plane, Window, blocks_touching
from geoml.grid.region import blocks_of, plane_of, project, zones
from geoml.io.cards import mlm
from geoml.io.cards.map_card import MapCard
from geoml.io.stac import search as stac
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.item_table import item_table
from geoml.io.stac.left_out import with_left_out
from geoml.io.stac.query import check_query
from geoml.io.stac.usable import Usable, checked, require_any, without_pixels
from geoml.io.stores.remote import RunStore, is_url, run_store
from geoml.io.stores.store import read_small, stamp, write_bytes, write_json
from geoml.recipe import Frozen, Place, PredictRecipe, digest, parse
from geoml.redacted import bare

STATE = ".geoml"
"""Folder of a run that holds its plan and the parts of unfinished outputs."""

PART = f"{STATE}/parts/{{}}.parquet"
"""What a block leaves for the tables of the run, by its id."""

MODEL = "model.json"
"""Copy of the model's card in the folder of a run."""

BLOCKS = f"{STATE}/blocks"
"""Folder of the one file with the blocks, which the plan names by its checksum."""

LARGEST_BLOCKS = 2**31
"""Bytes of that file at most."""


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


class SelfChange(Frozen):
    """Shares called changed although there is one date only: of each instead of all, and their mean."""

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
    blocks: BlockTable
    numbers: tuple[Numbers | None, ...] = Field(
        default=(), description="how mosaics of each date store values, None of one without items; none in older plans"
    )
    dates: tuple[tuple[str, ...], ...] = Field(default=(), description="ids of the items of each date, where several")
    sample: RegionSample | None = None
    units: dict[str, str] = Field(default_factory=dict, description="what happens to the unit of each band, in words")
    left_out: dict[str, str] = Field(default_factory=dict, description="items found that cannot be used -> why")

    @property
    def output_id(self) -> str:
        """Id of the collection that the run writes."""
        return f"{self.card.name}-{self.hash[:12]}"

    @property
    def title(self) -> str:
        """What is made, from what, by which model."""
        task = self.card.task.replace("_", " ")
        return f"{task} from {self.collection or self.recipe.query.catalog} by {self.card.name}"

    _shown: int | None = PrivateAttr(None)
    _date_of: tuple[object, dict[str, int]] | None = PrivateAttr(None)

    def by_date(self, items: Sequence[pystac.Item]) -> list[list[pystac.Item]]:
        """``items`` of each date, first date first; one list for a model of one date."""
        if not self.dates:
            return [list(items)]
        if self._date_of is None or self._date_of[0] is not self.dates:  # a copy may have others
            self._date_of = self.dates, {key: n for n, ids in enumerate(self.dates) for key in ids}
        found: list[list[pystac.Item]] = [[] for _ in self.dates]
        for item in items:
            if (n := self._date_of[1].get(item.id)) is not None:
                found[n].append(item)
        return found

    def block(self, planned: PlannedBlock) -> Block:
        return Block(self.zones[planned.zone].plane, self.recipe.block_size, planned.iy, planned.ix)

    @property
    def shown(self) -> int:
        """Pixels of a side of a block that its pictures show in their usual size: a small region is seen whole."""
        if self._shown is None:
            size, region = self.recipe.block_size, self.recipe.block_size
            if len(self.blocks) <= 4 * len(self.zones):  # one within a block's size touches no more
                outlines = [(z.plane, project(z.geometry, z.crs)) for z in self.zones]
                parts = [plane.window(*part.bounds) for plane, part in outlines if not part.is_empty]
                region = max((side for window in parts for side in window.shape), default=size)
            self._shown = shown(size, region)
        return self._shown

    @property
    def pixels(self) -> int | None:
        """Pixels of the region, also where no item is; None in plans that an older geoml made."""
        counts = [z.pixels for z in self.zones]
        return None if None in counts else sum(n or 0 for n in counts)

    def by_id(self) -> Mapping[str, PlannedBlock]:
        """The blocks by their ids, in the order of the plan; each is made when it is asked for."""
        return _ById(self.blocks, self.blocks.rows([z.plane for z in self.zones], self.recipe.block_size))

    def items_near(self, zone: Zone, window: Window, items: Mapping[str, pystac.Item]) -> list[pystac.Item]:
        """Those of ``items`` whose pixels may reach a window of the plane of a zone, by the blocks that it touches."""
        blocks, keys = self.by_id(), dict[str, None]()
        for block in blocks_touching(zone.plane, self.recipe.block_size, window):
            if planned := blocks.get(block.id):
                if planned.near is None:  # of an older plan, which knows only those that are known to touch
                    return list(items.values())
                keys |= dict.fromkeys((*planned.items, *planned.near))
        return [items[key] for key in keys if key in items]


class _ById(Mapping[str, PlannedBlock]):
    def __init__(self, blocks: BlockTable, rows: Mapping[str, int]) -> None:
        self._blocks, self._rows = blocks, rows

    def __getitem__(self, key: str) -> PlannedBlock:
        return self._blocks[self._rows[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows


def check(recipe: PredictRecipe, *, dates: bool = True) -> tuple[MapCard, MultiPolygon, stac.Catalog]:
    """What can be told of a recipe before a search: model, region and catalog, which are given, and what does not fit.

    ``dates=False`` leaves the dates alone. Raises InputError, ModelError.
    """
    card, query = card_of(recipe), recipe.query
    reads = input_of(card, recipe)
    if dates:
        reads.check(query.datetime)
    levels_of(card, output_of(card, recipe), recipe.join, tta=recipe.tta, factors=recipe.pyramid)
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
        fits = [_fitting(those, card, recipe, catalog, collection, left) for those in found]
    else:
        kept = {u.item.id: u for u in _fitting([i for n in found for i in n], card, recipe, catalog, collection, left)}
        fits = [[kept[i.id] for i in those if i.id in kept] for those in found]
    items = [u.item for those in fits for u in those]
    if len({i.id for i in items}) < len(items):
        twice = next(i.id for n, i in enumerate(items) if i.id in {j.id for j in items[:n]})
        raise InputError(
            f"datetime: the item {twice} belongs to two of the dates; expected ranges that do not share items"
        )
    specs = [u.specs for those in fits for u in those]
    units = check_units(card, specs, collection or catalog.name)
    into = [b.unit for b in card.bands] if converts(card, specs) else []  # other units, other pixels
    planes = _zones(recipe, region, card, list(zip(items, specs, strict=True)), catalog.profile(collection))
    cuts = [blocks_of(z.geometry, z.plane, recipe.block_size) for z in planes]
    blocks, used = planned_blocks(recipe, card, planes, cuts, fits, [*into, *card.marks], every=reads.every)
    if not blocks and reads.every and len(found) > 1:
        counts = " and ".join(str(len(those)) for those in fits)
        raise NothingFound(f"region: no block of it is covered on all {card.dates} dates; found {counts} items")
    if not blocks:
        raise NothingFound(f"region: none of the {len(items)} items found covers a block of it")
    plan = Plan(
        recipe=recipe,
        hash=digest([recipe.hash, card.sha256, *into, *card.marks]),
        model_path=recipe.model if is_url(recipe.model) else str(cards.find(recipe.model)),
        card=card,
        collection=collection,
        zones=tuple(
            z.model_copy(update={"pixels": count_inside(z.geometry, z.plane, cut)})
            for z, cut in zip(planes, cuts, strict=True)
        ),
        blocks=blocks,
        numbers=tuple(_numbers(those, used, card, recipe) for those in fits),
        dates=tuple(tuple(u.item.id for u in those) for those in fits) if len(fits) > 1 else (),
        units=units,
        left_out=left.items,
    )
    return plan, [item for item in items if item.id in used]


def _numbers(those: Sequence[Usable], used: Container[str], card: MapCard, recipe: PredictRecipe) -> Numbers | None:
    """How mosaics of a date store values, by all of its items that a block uses."""
    known = [(u.item, u.specs) for u in those if u.item.id in used]
    return (
        numbers_of(known, [b.asked for b in card.bands], recipe.composite, [b.unit for b in card.bands])
        if known
        else None
    )


def _searched(
    recipe: PredictRecipe, reads: Input, region: MultiPolygon, catalog: stac.Catalog, left: stac.LeftOut
) -> list[list[pystac.Item]]:
    """The items of each date.

    Raises NothingFound for a date without items and DataError for one whose items cannot be used, where the input needs
    every date or no other has any; InputError for a wrong query, TransientError if the catalog does not answer.
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


def _fitting(
    items: Sequence[pystac.Item],
    card: MapCard,
    recipe: PredictRecipe,
    catalog: stac.Catalog,
    collection: str,
    left: stac.LeftOut,
) -> list[Usable]:
    """The items of a date that the model can take. Design rule 7: when none fits the card, that is refused."""
    names, mine = [b.asked for b in card.bands], stac.LeftOut(left.strict)
    where = f"{card.name} does not fit {collection or catalog.name}"
    profile = catalog.profile(collection)
    if not input_of(card, recipe).rasters:
        kept = require_any(without_pixels(items, names, mine), mine, where)
        left.update(mine)
        return kept
    try:
        fit = checked(items, names, profile, catalog, mine, mask=recipe.mask, gsd=card.gsd)
        kept = require_any(of_spectra(fit, card.bands, mine), mine, where)
    except InputError as err:  # a band that is not there: it is the model that asks for it
        raise with_left_out(ModelError(str(err) if mine.items else f"{where}: {err}"), mine) from err
    left.update(mine)
    return kept


def _zones(
    recipe: PredictRecipe,
    region: MultiPolygon,
    card: MapCard,
    items: Sequence[tuple[pystac.Item, Sequence[BandSpec]]],
    profile: stac.Profile,
) -> list[Zone]:
    anchor: float = card.anchor
    if recipe.crs == "utm":
        parts: dict[str, MultiPolygon] = zones(region)
    elif recipe.crs == "data":
        crs, anchor = data_crs([(item, specs[0]) for item, specs in items], card.gsd, profile.anchor or anchor)
        parts = {crs: region}
    else:
        parts = {recipe.crs: region}
    planes = [(plane_of(crs, card.gsd, anchor), part) for crs, part in parts.items()]
    return [Zone(crs=p.crs, res=p.res, anchor=p.anchor, part=shapely.to_wkt(part, 9)) for p, part in planes]


def same(before: Plan, made: Plan) -> bool:
    """Whether a plan that was read says what another one would say once it is written."""
    one, two = (plan.model_dump(mode="json", exclude={"blocks"}) for plan in (before, made))
    try:
        return one == two and before.blocks == made.blocks
    except DataError:  # its sources are damaged, or of another plan
        return False


def write_plan(plan: Plan, items: Sequence[pystac.Item], out: str | Path | RunStore) -> None:
    """Write the blocks, ``sources.parquet`` and ``.geoml/plan.json``, the plan last: it says that the folder is ready.

    ``items`` are those that `make_plan` gave: blocks name them by their rows.
    """
    store = run_store(out)
    out = store.local
    write_json(out / MODEL, mlm.to_item(plan.card).to_dict(include_self_link=False))
    catalog = stac.open_catalog(plan.recipe.query.catalog)
    stac.write_items(items, out / "sources.parquet", catalog=catalog, left_out=plan.left_out)
    body = plan.blocks.parquet()
    blocks = {"sha256": hashlib.sha256(body).hexdigest(), "items": digest([i.id for i in items])}
    write_bytes(store.inside(name := _blocks_name(blocks["sha256"])), body)
    head = plan.model_dump(mode="json", exclude={"blocks"})
    write_json(store.inside(f"{STATE}/plan.json"), {**head, "blocks": blocks})
    store.push(MODEL, "sources.parquet", name, f"{STATE}/plan.json")
    store.remove(*(old for old in store.sizes(BLOCKS) if old != name))


def _blocks_name(sha256: str) -> str:
    return f"{BLOCKS}/{sha256[:32]}.parquet"


_read: dict[str, tuple[object, Plan]] = {}
_one = Lock()
KEPT = 4
"""Plans that a process remembers."""


def read_plan(out: str | Path | RunStore) -> Plan:
    """The plan of a run; for one in a bucket the working copy gets it, the card and the sources.

    It is read once in a process as long as its files stay the same. Raises InputError if there is none.
    """
    store = run_store(out)
    store.pull(f"{STATE}/plan.json", "sources.parquet", MODEL)
    path, sources = store.local / STATE / "plan.json", store.local / "sources.parquet"
    now, where = (stamp(path), stamp(sources)), str(store.local.absolute())
    with _one:
        if None not in now and (known := _read.get(where)) and known[0] == now:
            return known[1]
    body = read_small(path)
    if body is None:
        raise InputError(f"out: {store.url} contains no run; expected a folder that geoml predict wrote")

    def blocks(name: str) -> bytes | None:
        store.pull(name)
        return read_small(store.local / name, LARGEST_BLOCKS)

    plan = plan_of(body, str(path), blocks, sources)
    with _one:
        _read.pop(where, None)
        _read[where] = now, plan
        while len(_read) > KEPT:
            del _read[next(iter(_read))]
    return plan


def plan_of(body: bytes, where: str, blocks: Callable[[str], bytes | None], sources: Path) -> Plan:
    """The plan that ``plan.json`` holds, with the file of ``blocks`` that it names, or an older one that holds them.

    ``sources`` are opened when a block is asked for its items. Raises InputError if it is damaged.
    """
    try:
        value = json.loads(body)
        named = value.get("blocks")
        if isinstance(named, dict):
            found = blocks(_blocks_name(str(named["sha256"])))
            if found is None or hashlib.sha256(found).hexdigest() != named["sha256"]:
                raise ValueError("its blocks are missing, or changed since they were written")  # noqa: TRY301
            ids = cache(partial(_ids, sources, named.get("items")))
            value["blocks"] = BlockTable.of_parquet(found, ids)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, pa.ArrowException) as err:
        raise InputError(f"out: {where} is damaged ({err}); expected the plan of a run") from err
    return parse(Plan, _published(value), where)


def _ids(sources: Path, expected: object) -> list[str]:
    """The ids of the items by row. Raises DataError if the file is not that of the plan."""
    ids = item_table(sources).ids
    if digest(ids) != expected:
        raise DataError(f"{sources}: not as the run was planned; run the command again")
    return ids


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
