"""Where blocks run, by ``settings().workers``: in this process, in processes of this machine, or on Dask workers.

What goes to a worker is the place of the run and ids of blocks; what comes back is a `Tally`. A worker holds one batch
at a time, so that its death is blamed on that batch alone: Dask by itself would blame every batch that the scheduler
had assigned to the worker.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from geoml.engine.run.plan import read_plan
from geoml.engine.run.tally import Progress, Tally, note_failed
from geoml.engine.workers.processes import Processes
from geoml.engine.workers.worker_pool import WorkerDied, WorkerPool
from geoml.errors import DataError, InputError, TransientError, needs
from geoml.io.stores import lock
from geoml.io.stores.remote import RunStore, run_store
from geoml.io.stores.store import within
from geoml.settings import WORKERS, settings

log = logging.getLogger(__name__)

DEATHS = 2
"""Workers that a batch may end before its blocks are tried each by itself; one more ends the block."""

RETRIES = 2
"""Times that a whole batch is retried after an error that may go away."""


@dataclass
class _Batch:
    ids: Sequence[str]
    deaths: int = 0
    tries: int = 0


def run_all(
    out: str | Path | RunStore, ids: Sequence[str], batch: int = 8, progress: Progress | None = None
) -> list[Tally]:
    """Predict the blocks ``ids`` of the run in ``out``, at most ``batch`` in one step; see `run_blocks` for a step.

    A batch whose worker dies is given to another one, which goes on after the blocks that are done. A block that ends
    three workers is recorded as failed, and its neighbours are done.

    Raises what `run_blocks` raises, InputError for settings that cannot be, TransientError without workers.
    """
    store = run_store(out)
    try:
        return _run(store, ids, batch, progress) if ids else []
    finally:
        _sweep(store.local, ids)


def drive(pool: WorkerPool, out: str | Path | RunStore, ids: Sequence[str], batch: int = 8) -> list[Tally]:
    """`run_all` with the caller's own pool of workers."""
    store = run_store(out)
    try:
        return _drive(pool, store, _cut(ids, batch, max(1, len(pool.idle()))), None)
    finally:
        _sweep(store.local, ids)


def _run(store: RunStore, ids: Sequence[str], batch: int, progress: Progress | None) -> list[Tally]:
    kind, count, address = parse(settings().workers)
    if kind == "here":
        from geoml.engine.run.blocks import run_blocks  # torch

        return [run_blocks(store, ids, progress)]
    place = store.url if store.remote else str(store.local.absolute())  # a worker has a folder of its own
    with _start(kind, count, address, place, progress) as pool:
        return _drive(pool, store, _cut(ids, batch, len(pool.idle())), progress)


WRITTEN = (".", "items", ".geoml", ".geoml/blocks", ".geoml/parts", ".geoml/failed")
"""Folders of a run that files are written to, beside those of its blocks."""


def _sweep(out: Path, ids: Sequence[str]) -> None:
    """Remove temporary files and folders of writers that were killed; nobody writes now."""
    for folder in (*WRITTEN, *(f"cogs/{key}" for key in ids)):
        try:
            here = within(out, f"{folder}/part").parent
        except DataError:  # what lies behind a link is not ours
            continue
        for path in here.glob(".*.part"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(".lock."):  # its holder still renews it
                path.unlink(missing_ok=True)


def parse(workers: str) -> tuple[str, int, str]:
    """(here | processes | cluster | tcp, number of workers or 1, address) of the setting. Raises InputError."""
    match = WORKERS.fullmatch(workers)
    if match is None:
        raise InputError(f"GEOML_WORKERS: {workers!r}; expected here, processes:N, cluster:N or tcp|tls://host:port")
    if match["tcp"]:
        return "tcp", 1, workers
    return match["here"] or match["kind"], int(match["count"] or 1), ""


def _start(
    kind: str, count: int, address: str, out: str, progress: Progress | None
) -> AbstractContextManager[WorkerPool]:
    if kind == "processes":
        return Processes(count, out, progress)
    with needs("dask", "workers"):
        from geoml.engine.workers.cluster import Cluster  # distributed takes a second to import

    return Cluster(address or count, out, progress)


def _cut(ids: Sequence[str], size: int, workers: int) -> Iterator[_Batch]:
    """Batches of neighbours, smaller than ``size`` where a worker would otherwise get none."""
    size = max(1, min(size, -(-len(ids) // (2 * max(1, workers)))))
    return (_Batch(ids[i : i + size]) for i in range(0, len(ids), size))


def _drive(pool: WorkerPool, store: RunStore, batches: Iterator[_Batch], progress: Progress | None) -> list[Tally]:
    plan = read_plan(store)
    queue, held = deque(batches), dict[Hashable, _Batch]()
    tallies: list[Tally] = []
    failed: dict[str, str] = {}
    while queue or held:
        for worker in pool.idle():
            if queue:
                held[worker] = queue.popleft()
                pool.submit(worker, held[worker].ids)
        lock.check_held(store.url)  # another one may have taken the run over
        before = len(tallies)
        for worker, result in pool.results():
            part = held.pop(worker)
            if isinstance(result, WorkerDied):
                queue.extend(_again(part, result))
                if part.deaths > DEATHS:
                    tallies.append(_quarantine(store, part.ids[0], result, progress))
            elif isinstance(result, TransientError) and part.tries < RETRIES:
                log.warning("retrying a batch: %s", result)
                queue.append(_Batch(part.ids, part.deaths, part.tries + 1))
            elif isinstance(result, BaseException):
                raise result
            else:
                tallies.append(result)
            for tally in tallies[before:]:
                failed |= tally.failed
            if len(failed) > plan.recipe.max_failed * len(plan.blocks):
                last = next(reversed(failed.values()))
                raise DataError(f"{len(failed)} of {len(plan.blocks)} blocks failed; the last: {last}")
    return tallies


def _again(part: _Batch, death: WorkerDied) -> list[_Batch]:
    """What to try again of a batch whose worker died; its done blocks are skipped then."""
    part.deaths += 1
    log.warning("lost a worker with %d blocks (%s): the process %s", len(part.ids), part.ids[0], death.reason)
    if part.deaths > DEATHS:
        return []
    if part.deaths < DEATHS:
        return [part]
    return [_Batch([key], part.deaths, part.tries) for key in part.ids]


def _quarantine(store: RunStore, key: str, death: WorkerDied, progress: Progress | None) -> Tally:
    tally = Tally()
    why = f"the process {death.reason}, and so did {DEATHS} before it on this block"
    note_failed(store, key, DataError(why), tally)
    if progress:
        progress(key, 0)
    return tally
