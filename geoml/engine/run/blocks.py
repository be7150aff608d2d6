"""Run the blocks of a plan: read ahead, predict, write while rows finish, publish one STAC item for each block.

Three things happen at once, each with bounded work in hand: a thread reads the next block, this thread runs the
model, a thread compresses finished rows and turns the finished block into polygons and an item.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pystac
from numpy.typing import NDArray

from geoml.cube.domain import likeness
from geoml.cube.normalise import coefficients
from geoml.cube.region import inside
from geoml.cube.register import Shift
from geoml.engine.inference.predict import Predictor
from geoml.engine.machine.ahead import ahead, tried
from geoml.engine.machine.device import Device, choose
from geoml.engine.machine.memory import kept
from geoml.engine.run.dates import Mosaic, between, cropped, harmonised, margin, moved, read_dates, together
from geoml.engine.run.output import BlockWriter
from geoml.engine.run.plan import STATE, Plan, PlannedBlock, Sample, read_plan
from geoml.engine.run.planned import load_planned
from geoml.errors import DataError, GeomlError, InputError, TransientError, limits
from geoml.grid.plane import Block, Window
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.projection import check_projection
from geoml.io.cog.radiometry import check_offset
from geoml.io.stac import search as stac
from geoml.io.stac.bands import select
from geoml.io.stac.items import LARGEST_ITEM, files_are_there
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import read_small, write_json
from geoml.logs import Threads, about
from geoml.settings import settings

log = logging.getLogger(__name__)

Progress = Callable[[str, int], None]
"""Called with a block id and the pixels finished since the last call; 0 when the block failed."""


@dataclass
class Tally:
    """What a batch of blocks cost and how it ended; adds up over batches."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    transient: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    pixels: int = 0


@dataclass(frozen=True)
class _Input:
    """A block in memory: the mosaic of ``origin`` and where the region asks for output."""

    planned: PlannedBlock
    block: Block
    origin: Window
    data: NDArray[np.generic]
    count: NDArray[np.uint16]
    scale: Sequence[float]
    offset: Sequence[float]
    asked: NDArray[np.bool_]
    dates: Sequence[Sequence[pystac.Item]]
    residual: Sequence[Shift | None]
    """Of each later date against the first, after it was corrected."""
    seconds: float
    likeness: NDArray[np.uint8] | None = None
    """(y, x) of the block to the training data, see `geoml.cube.domain`; None where the package has no record."""
    compared: float = 0.0
    """Seconds that it took to compare them."""


@lru_cache(maxsize=2)
def _predictor(path: str, card: str, join: str, tta: bool, probabilities: bool, device: Device) -> Predictor:
    """The model, loaded once in a process; ``card`` is the plan's as JSON."""
    package = load_planned(path, MapCard.model_validate_json(card))
    return Predictor(package, join=join, tta=tta, probabilities=probabilities, device=device)


def predictor_of(plan: Plan, device: Device | None = None) -> Predictor:
    """The model of a plan as its blocks see it, on the device of the settings.

    Raises as `Predictor`, and ModelError where the package was replaced since the plan was made.
    """
    recipe = plan.recipe
    options = recipe.join, recipe.tta, recipe.probabilities
    return _predictor(plan.model_path, plan.card.model_dump_json(exclude_unset=True), *options, device or choose())


def is_done(
    out: str | Path | RunStore, plan: Plan, planned: PlannedBlock, size: Callable[[str], int | None] | None = None
) -> bool:
    """True when the block's item exists with the block's hash (design rule 8), and its files with their sizes.

    ``size`` is what `RunStore.blocks` said of this block, to look once for many.
    """
    key, store = plan.block(planned).id, run_store(out)
    size = size or store.blocks([key])
    path = store.local / "items" / f"{key}.json"
    try:
        item = json.loads(read_small(path, LARGEST_ITEM) or b"{}")
        if item["properties"]["geoml:recipe_hash"] != planned.hash or not files_are_there(item, size):
            return False
    except (DataError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # none, or a damaged one
        return False
    return not plan.recipe.features or size(f"{STATE}/parts/{key}.parquet") is not None


@limits("blocks")
def run_blocks(out: str | Path | RunStore, ids: Sequence[str] | None = None, progress: Progress | None = None) -> Tally:
    """Predict the blocks ``ids`` of the plan in ``out`` (None: all), skipping those that are done.

    A block whose source is broken is recorded in ``.geoml/failed`` with the reason and the others go on.
    Raises ModelError at once, DataError when more than the recipe's share of all blocks failed, and TransientError
    when a bucket does not take what is finished or memory is not enough to write it.
    """
    store = run_store(out)
    plan = read_plan(store)
    by_id = plan.by_id()
    tally = Tally()
    todo = []
    size = store.blocks(ids)
    for key in by_id if ids is None else ids:
        if is_done(store, plan, by_id[key], size):
            tally.skipped.append(key)
        else:
            todo.append(by_id[key])
    if not todo:
        return tally
    device = choose()
    with about(run=plan.hash[:8]), kept() if device.torch.type == "cpu" else nullcontext():
        _run(store, plan, todo, device, tally, progress)
    return tally


def _run(
    store: RunStore, plan: Plan, todo: Sequence[PlannedBlock], device: Device, tally: Tally, progress: Progress | None
) -> None:
    recipe = plan.recipe
    predictor = predictor_of(plan, device)
    reader = _Reader(store.local, plan, predictor)
    with (
        Threads(1, "geoml-write") as writing,
        closing(ahead(tried(reader.read, todo), settings().prefetch, "geoml-read")) as blocks,
    ):
        pending: Future[None] | None = None
        for planned, found in blocks:
            key = plan.block(planned).id
            if isinstance(found, (DataError, TransientError)):
                note_failed(store, key, found, tally)
                if progress:
                    progress(key, 0)
                if len(tally.failed) > recipe.max_failed * len(plan.blocks):
                    raise DataError(f"{len(tally.failed)} of {len(plan.blocks)} blocks failed; the last: {found}")
                continue
            if isinstance(found, BaseException):
                raise found
            with about(block=key):
                pending = _predict(store, plan, predictor, found, writing, pending, tally, progress)
        if pending is not None:
            pending.result()


def _predict(
    store: RunStore,
    plan: Plan,
    predictor: Predictor,
    found: _Input,
    writing: Threads,
    pending: Future[None] | None,
    tally: Tally,
    progress: Progress | None,
) -> Future[None]:
    """Run the model over a block; its rows go to the writing thread, at most a few at a time."""
    card = plan.card
    mul, add = coefficients(card, found.scale, found.offset)
    valid = found.count > 0
    writer = BlockWriter(store.local, plan, found.planned, found.asked, found.likeness, moves=store.remote)
    inner = found.block.window.slices(found.origin)
    count = found.count[inner]
    tally.seconds["read"] += found.seconds
    if found.likeness is not None:
        tally.seconds["domain"] += found.compared
    tally.bytes["read"] += found.data.nbytes
    room = threading.Semaphore(4)  # rows in flight

    def write(rows: object, part: slice) -> None:
        try:
            start = time.perf_counter()
            writer.rows(rows, count[part], part)  # type: ignore[arg-type]
            tally.seconds["write"] += time.perf_counter() - start
        finally:
            room.release()

    futures = []
    try:
        y = 0
        start = time.perf_counter()
        for rows in predictor.rows(found.data, valid, mul, add, found.origin, found.block.window):
            tally.seconds["model"] += time.perf_counter() - start
            height = rows.classes.shape[0]
            room.acquire()
            futures.append(writing.submit(write, rows, slice(y, y + height)))
            y += height
            if progress:
                progress(found.block.id, height * rows.classes.shape[1])
            start = time.perf_counter()
        tally.seconds["model"] += time.perf_counter() - start
        for future in futures:
            future.result()
        if pending is not None:
            pending.result()
        writer.preview(found.data[(slice(None), *inner)], valid[inner], mul, add)
    except BaseException:  # also a stop from outside; the finished block before this one is still published
        writing.submit(writer.abort).result()
        raise

    def finish() -> None:
        start = time.perf_counter()
        try:
            tally.bytes["write"] += writer.finish(found.dates, found.residual)
        except BaseException:
            writer.abort()
            raise
        key = found.block.id
        parts = [f"{STATE}/parts/{key}.parquet"] if plan.recipe.features else []
        store.push(f"cogs/{key}", *parts, f"items/{key}.json")
        store.remove(f"{STATE}/failed/{key}.json")
        tally.seconds["publish"] += time.perf_counter() - start
        tally.done.append(found.block.id)
        tally.pixels += int(np.prod(found.block.window.shape))
        log.info("done")

    return writing.submit(finish)


class _Reader:
    """Reads the mosaic of a block, with everything around it that the model needs."""

    def __init__(self, out: Path, plan: Plan, predictor: Predictor) -> None:
        self.plan, self.predictor = plan, predictor
        self.all = stac.read_items(out / "sources.parquet")
        self.items = {i.id: i for i in self.all}
        self.catalog = stac.open_catalog(plan.recipe.query.catalog)
        self.profile = self.catalog.profile(plan.collection)
        self.checked: set[str] = set()
        self.warned: set[str] = set()  # kinds of odd georeference that were said once

    def _check(self, items: Sequence[pystac.Item]) -> None:
        """Once for each item: the files lie where the item says, and their numbers are what it says."""
        for item in items:
            if item.id not in self.checked:
                specs = select(item, [b.name for b in self.plan.card.bands], self.profile, self.catalog)
                for spec in specs:
                    check_projection(item, spec, self.warned)
                check_offset(item, specs, self.profile)
                self.checked.add(item.id)

    def read(self, planned: PlannedBlock) -> _Input:
        key = self.plan.block(planned).id
        with about(block=key), limits(f"block {key}"):
            try:
                return self._read(planned)
            except InputError as err:  # of an item: an href that is not allowed; the recipe was checked before
                raise DataError(str(err)) from err

    def _read(self, planned: PlannedBlock) -> _Input:
        start = time.perf_counter()
        plan, block = self.plan, self.plan.block(planned)
        zone = plan.zones[planned.zone]
        origin = self.predictor.needed(block.window)
        self._check([self.items[key] for key in planned.items])
        sample, limit = plan.sample or Sample(key="", squares=0, pixels=0), plan.recipe.shift_limit
        more = margin(sample.shifts, limit)
        seen = origin.expand(more)
        dates = moved(read_dates(plan, self.all, zone.plane.geobox(seen)), sample.shifts, limit)
        dates = [cropped(d, seen, origin) for d in dates] if more else dates
        residual = self._residual(dates, block, origin)
        found = together(harmonised(dates, sample.transforms))
        asked = inside(zone.geometry, block.geobox)
        took = time.perf_counter() - start
        used = [d.items for d in dates]
        made = planned, block, origin, found.data, found.count, found.scale, found.offset, asked, used, residual, took
        if plan.card.domain is None:
            return _Input(*made)
        start = time.perf_counter()
        inner = cropped(found, origin, block.window)
        alike = likeness(plan.card.domain, inner.data, inner.count > 0, inner.scale, inner.offset)
        return _Input(*made, alike, time.perf_counter() - start)

    def _residual(self, dates: Sequence[Mosaic], block: Block, origin: Window) -> list[Shift | None]:
        """The shift of each later date that is left. Raises DataError when it is above the recipe's largest."""
        most = self.plan.recipe.max_shift
        if not most:
            return [None for _ in dates[1:]]
        first, *later = [cropped(d, origin, block.window) for d in dates]
        found = [between(first, d) for d in later]
        if far := max((f.length for f in found if f), default=0.0):
            if far > most:
                raise DataError(f"the dates are shifted by {far:.1f} pixels here; more than max_shift = {most:g}")
            if far > self.plan.recipe.shift_limit:
                log.warning("the dates are shifted by %.1f pixels here, unlike in most of the region", far)
        return found


def note_failed(out: str | Path | RunStore, key: str, error: GeomlError, tally: Tally) -> None:
    """Put down why a block failed, in the run's folder and in ``tally``."""
    with about(block=key):
        log.warning("failed: %s", error)
    tally.failed[key] = str(error)
    if isinstance(error, TransientError):
        tally.transient.append(key)
    store, name = run_store(out), f"{STATE}/failed/{key}.json"
    write_json(store.inside(name), {"block": key, "error": type(error).__name__, "message": str(error)})
    store.push(name)
