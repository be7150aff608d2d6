"""Run the blocks of a plan: read ahead, predict, write while rows finish, publish one STAC item for each block.

Three things happen at once, each with bounded work in hand: a thread reads the next block, this thread runs the
model, a thread compresses finished rows and turns the finished block into polygons and an item.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pystac

from geoml.cube.domain import likeness
from geoml.cube.load import known_source
from geoml.cube.region import inside
from geoml.engine.contract import BlockRun, Rows, input_of, output_of
from geoml.engine.inference.choice import ChosenBackend, asked_of_machine, choose_backend
from geoml.engine.inference.lattice import grid_of
from geoml.engine.inference.predict import Predictor
from geoml.engine.machine.memory import keep_freed_memory
from geoml.engine.machine.prefetch import attempts, prefetch
from geoml.engine.packages.calibrate import check_calibrated
from geoml.engine.packages.package import Package
from geoml.engine.run.output import BlockWriter
from geoml.engine.run.plan import PART, STATE, Plan, PlannedBlock, read_plan
from geoml.engine.run.planned import load_planned
from geoml.engine.run.tally import Progress, Tally, is_done, note_failed
from geoml.errors import DataError, InputError, TransientError, limits
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.projection import check_projection
from geoml.io.cog.radiometry import check_offset
from geoml.io.stac.catalog import known_catalog
from geoml.io.stac.item_table import item_table
from geoml.io.stores.remote import RunStore, run_store
from geoml.logs import Threads, about
from geoml.settings import settings

log = logging.getLogger(__name__)


@lru_cache(maxsize=2)
def _loaded(path: str, card: str, size: int, asked: tuple[str, Hashable]) -> tuple[Package, ChosenBackend]:
    """The model, loaded once in a process; ``card`` is the plan's as JSON, ``size`` that of its chips."""
    package = load_planned(path, MapCard.model_validate_json(card))
    check_calibrated(package)
    return package, choose_backend(package, size, asked)


def predictor_of(plan: Plan) -> Predictor:
    """The model of a plan as its blocks see it, on the device and the back end of the settings.

    Raises InputError for a package, a device or a back end that is not there, MissingExtra for one whose library is
    absent, ModelError for a package that is damaged, not calibrated or replaced since the plan was made and for a named
    back end that does not pass its proof, TransientError if the device has no room for the model.
    """
    recipe, output = plan.recipe, output_of(plan.card, plan.recipe)
    card, size = plan.card.model_dump_json(exclude_unset=True), grid_of(plan.card, output, recipe.join).size
    package, (backend, facts) = _loaded(plan.model_path, card, size, asked_of_machine())
    predictor = Predictor(package, output, join=recipe.join, tta=recipe.tta, factors=recipe.pyramid, backend=backend)
    predictor.facts = facts
    return predictor


@limits("blocks")
def run_blocks(out: str | Path | RunStore, ids: Sequence[str] | None = None, progress: Progress | None = None) -> Tally:
    """Predict the blocks ``ids`` of the plan in ``out`` (None: all), skipping those that are done.

    A block whose source is broken is recorded in ``.geoml/failed`` with the reason and the others go on.
    Raises ModelError at once, DataError if more than the recipe's share of all blocks failed, and TransientError
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
    predictor = predictor_of(plan)
    with about(run=plan.hash[:8]), keep_freed_memory() if predictor.backend.device.type == "cpu" else nullcontext():
        _run(store, plan, todo, predictor, tally, progress)
    return tally


def _run(
    store: RunStore,
    plan: Plan,
    todo: Sequence[PlannedBlock],
    predictor: Predictor,
    tally: Tally,
    progress: Progress | None,
) -> None:
    recipe = plan.recipe
    reader = BlockReader(store.local, plan, predictor)
    with (
        Threads(1, "geoml-write") as writing,
        closing(prefetch(attempts(reader.read, todo), settings().prefetch, "geoml-read")) as blocks,
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
                pending = _predict(store, predictor, found, writing, pending, tally, progress)
        if pending is not None:
            pending.result()


def _predict(
    store: RunStore,
    predictor: Predictor,
    run: BlockRun,
    writing: Threads,
    pending: Future[None] | None,
    tally: Tally,
    progress: Progress | None,
) -> Future[None]:
    """Run the model over a block; its rows go to the writing thread, at most a few at a time."""
    key, output = run.block.id, predictor.output
    run = replace(run, properties={**run.properties, **predictor.facts})
    writer = BlockWriter(store.local, run, output, moves=store.remote)
    for stage, seconds in run.seconds.items():
        tally.seconds[stage] += seconds
    tally.bytes["read"] += run.pixels.data.nbytes
    room = threading.Semaphore(4)  # rows in flight

    def write(rows: Rows) -> None:
        try:
            start = time.perf_counter()
            writer.rows(rows)
            tally.seconds["write"] += time.perf_counter() - start
        finally:
            room.release()

    futures = []
    try:
        start = time.perf_counter()
        for rows in predictor.rows(run.pixels, run.block.window, run.asked):
            tally.seconds["model"] += time.perf_counter() - start
            room.acquire()
            futures.append(writing.submit(write, rows))
            if progress:
                progress(key, int(np.prod(rows.window.shape)))
            start = time.perf_counter()
        tally.seconds["model"] += time.perf_counter() - start
        for future in futures:
            future.result()
        if pending is not None:
            pending.result()
        writer.preview()
    except BaseException:  # also a stop from outside; the finished block before this one is still published
        writing.submit(writer.abort).result()
        raise

    def finish() -> None:
        start = time.perf_counter()
        try:
            tally.bytes["write"] += writer.finish()
        except BaseException:
            writer.abort()
            raise
        parts = [PART.format(key)] if output.tables else []
        store.push(f"cogs/{key}", *parts, f"items/{key}.json")
        store.remove(f"{STATE}/failed/{key}.json")
        tally.seconds["publish"] += time.perf_counter() - start
        tally.done.append(key)
        tally.pixels += int(np.prod(run.block.window.shape))
        log.info("done")

    return writing.submit(finish)


class BlockReader:
    """Reads the pixels of a block, with everything around it that the model needs."""

    def __init__(self, out: Path, plan: Plan, predictor: Predictor) -> None:
        self.plan, self.predictor = plan, predictor
        self.items = item_table(out / "sources.parquet")
        self.catalog = known_catalog(plan.recipe.query.catalog)
        self.profile = self.catalog.profile(plan.collection)
        self.checked: set[str] = set()
        self.warned: set[str] = set()  # kinds of odd georeference that were said once

    def _check(self, items: Sequence[pystac.Item]) -> None:
        """Once for each item: the files lie where the item says, and their numbers are what it says."""
        if not input_of(self.plan.card, self.plan.recipe).rasters:
            return
        for item in items:
            if item.id not in self.checked:
                names = tuple(b.asked for b in self.plan.card.bands)
                specs = known_source(item, names, self.profile, self.catalog, self.plan.recipe.mask)[0].bands
                for spec in {s.href: s for s in reversed(specs)}.values():  # a file once, however many bands
                    check_projection(item, spec, self.warned)
                check_offset(item, specs, self.profile)
                self.checked.add(item.id)

    def read(self, planned: PlannedBlock) -> BlockRun:
        key = self.plan.block(planned).id
        with about(block=key), limits(f"block {key}"):
            try:
                return self._read(planned)
            except InputError as err:  # of an item: an href that is not allowed; the recipe was checked before
                raise DataError(str(err)) from err

    def _read(self, planned: PlannedBlock) -> BlockRun:
        start = time.perf_counter()
        plan, block = self.plan, self.plan.block(planned)
        self._check(self.items.items(planned.items))
        near = self.items.ids if planned.near is None else (*planned.items, *planned.near)
        items, window = self.items.items(near), self.predictor.needed(block.window)
        found = input_of(plan.card, plan.recipe).read(plan, items, block, window)
        asked = inside(plan.zones[planned.zone].geometry, block.geobox)
        run = BlockRun(plan, planned, block, found.pixels, asked, found.dates, found.properties, found.times)
        took = {"read": time.perf_counter() - start}
        if plan.card.domain is None:
            return replace(run, seconds=took)
        start = time.perf_counter()
        inner = run.inner
        alike = likeness(plan.card.domain, inner.data, inner.valid, inner.scale, inner.offset, inner.looks)
        return replace(run, likeness=alike, seconds={**took, "domain": time.perf_counter() - start})
