# mypy: allow-untyped-calls
"""Workers of a Dask cluster: of a scheduler by its address, or of a cluster of processes that is started for the run.

Dask carries batches and knows which workers are alive; which worker does what is decided here, see
`geoml.engine.workers.drive`.
"""

from __future__ import annotations

import logging
import queue
import signal
import time
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from distributed import Client, Future, KilledWorker, LocalCluster, get_worker
from distributed.comm.core import FatalCommClosedError

from geoml import logs
from geoml.engine.workers.cluster_tls import credentials, private
from geoml.engine.workers.worker_pool import STOP_SECONDS, BatchResult, WorkerDied
from geoml.errors import InputError, TransientError
from geoml.io.stores.signed import Signatures, current_signatures
from geoml.settings import settings

if TYPE_CHECKING:
    from geoml.engine.run.tally import Progress, Tally

log = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
"""Between questions which workers are alive."""

_dropped: set[str] = set()
"""In a worker: keys of steps whose results are no longer needed."""


class Cluster:
    """The workers of the scheduler at ``where``, or of a new cluster of ``where`` processes that ends with the run."""

    def __init__(self, where: str | int, out: str, progress: Progress | None) -> None:
        self.where, self.out, self.progress = where, out, progress
        self.busy: dict[str, Future[Any]] = {}
        self.ended: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()
        self.alive: list[str] = []
        self.seen = self.refreshed = time.monotonic()
        self.own: LocalCluster | None = None

    def __enter__(self) -> Self:
        try:
            self.client = self._connect()
        except BaseException as err:
            self._close_own(time.monotonic())
            if isinstance(err, FatalCommClosedError):
                raise InputError(f"GEOML_WORKERS: {self.where}: its certificates and ours do not fit") from err
            if isinstance(err, OSError | TimeoutError):
                raise TransientError(f"workers: no Dask scheduler at {self.where} ({err})") from err
            raise
        self.seen = time.monotonic()
        self._refresh()
        return self

    def _connect(self) -> Client:
        timeout = settings().timeout
        if isinstance(self.where, str):
            return Client(self.where, security=credentials(self.where), timeout=timeout, set_as_default=False)
        self.own = _start(self.where)
        return Client(self.own, timeout=timeout, set_as_default=False)

    def idle(self) -> list[str]:
        if not self.alive and time.monotonic() - self.seen > settings().timeout:
            raise TransientError(f"workers: the Dask scheduler at {self.where} has had no worker for a while")
        return [name for name in self.alive if name not in self.busy]

    def submit(self, worker: Hashable, ids: Sequence[str]) -> None:
        assert isinstance(worker, str)
        future = self.client.submit(
            _step, self.out, list(ids), current_signatures(), workers=[worker], pure=False, retries=0
        )
        self.busy[worker] = future
        future.add_done_callback(lambda f: self.ended.put((worker, f)))

    def results(self) -> list[BatchResult]:
        outcomes: dict[str, Tally | WorkerDied | BaseException] = {}
        with suppress(queue.Empty):
            worker, future = self.ended.get(timeout=0.5)
            if self.busy.get(worker) is future:
                outcomes[worker] = self._outcome(future)
        if time.monotonic() - self.refreshed > REFRESH_SECONDS:
            self._refresh()
            for worker in set(self.busy) - set(self.alive) - set(outcomes):
                self.busy[worker].cancel()
                outcomes[worker] = WorkerDied(f"at {worker} is gone from the Dask cluster")
        for worker in outcomes:
            del self.busy[worker]
        return [*outcomes.items()]

    def _refresh(self) -> None:
        try:
            self.alive = list(self.client.nthreads())
        except (OSError, TimeoutError) as err:
            raise TransientError(f"workers: the Dask scheduler at {self.where} is gone ({err})") from err
        self.refreshed = time.monotonic()
        if self.alive:
            self.seen = self.refreshed

    def _outcome(self, future: Future[tuple[Tally, int]]) -> Tally | WorkerDied | BaseException:
        if future.status == "finished":
            try:
                tally, pixels = future.result(timeout=settings().timeout)
            except (OSError, TimeoutError):  # what is done is on disk; only the sums are lost
                return WorkerDied("is gone from the Dask cluster with what it had to tell")
            if self.progress:
                for key in tally.done:
                    self.progress(key, pixels)
                for key in tally.failed:
                    self.progress(key, 0)
            return tally
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return WorkerDied("ended again and again under Dask")
            if isinstance(error, ModuleNotFoundError):
                return InputError(f"GEOML_WORKERS: {error} on the Dask worker; expected the same packages as here")
            return error if isinstance(error, BaseException) else RuntimeError(str(error))
        return TransientError(f"workers: the Dask scheduler at {self.where} lost a batch ({future.status})")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ends = time.monotonic() + STOP_SECONDS
        try:
            if kind is not None and self.busy:
                self._stop(ends - 2)
        finally:
            with suppress(OSError, TimeoutError):
                self.client.close(timeout=1)
            self._close_own(ends)

    def _stop(self, ends: float) -> None:
        """Let workers publish what is finished; one that takes too long finds out by itself."""
        futures = list(self.busy.values())
        try:
            self.client.run(_drop, [f.key for f in futures], on_error="ignore")
            left = set(self.busy)
            while left and time.monotonic() < ends:
                with suppress(queue.Empty):
                    left.discard(self.ended.get(timeout=0.2)[0])
            self.client.cancel(futures, force=True)
        except Exception as err:  # the run ends for a reason of its own, which this must not hide
            log.warning("workers of %s were not told to stop (%s)", self.where, err)

    def _close_own(self, ends: float) -> None:
        with suppress(OSError, TimeoutError):
            if self.own is not None:
                self.own.close(timeout=max(1.0, ends - time.monotonic()))


def _start(count: int) -> LocalCluster:
    """Processes that share the cores."""
    threads = max(1, settings().threads // count)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    cluster = LocalCluster(**private(count, threads), silence_logs=logging.ERROR, env={"GEOML_THREADS": str(threads)})
    with Client(cluster, set_as_default=False) as client:
        client.run(_set_up, logging.getLogger().getEffectiveLevel())
    return cluster


def _set_up(level: int) -> None:
    """In a worker that geoml started: log as it does, and ignore Ctrl-C, which a terminal sends to all processes."""
    logs.setup(level)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters comes back as an error of the step
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drop(keys: Sequence[str]) -> None:
    _dropped.update(keys)


class _Dropped(Exception):
    """The result of this step is no longer needed: it leaves the block that it is in."""


def _step(out: str, ids: list[str], signatures: Signatures) -> tuple[Tally, int]:
    """In a worker: a batch of blocks with as many threads as the worker has; the tally and the pixels of a block."""
    import torch

    from geoml.engine.run.blocks import run_blocks
    from geoml.engine.run.plan import read_plan

    signatures.install()
    worker: Any = get_worker()
    key = worker.get_current_task()
    torch.set_num_threads(worker.state.nthreads)

    def check_needed(_block: str, _pixels: int) -> None:
        task = worker.state.tasks.get(key)
        if key in _dropped or task is None or task.state != "executing":
            raise _Dropped

    return run_blocks(out, ids, check_needed), read_plan(out).recipe.block_size ** 2
