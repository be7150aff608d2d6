# mypy: allow-untyped-calls
"""Workers of a Dask cluster: of a scheduler by its address, or of a cluster of processes that is started for the run.

Dask carries batches and tells which workers live; which worker does what is decided here, see
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
from geoml.engine.workers.crew import STOPPING, Died, News
from geoml.errors import InputError, TransientError
from geoml.io.stores.signed import Signatures, current_signatures
from geoml.settings import settings

if TYPE_CHECKING:
    from geoml.engine.run.blocks import Progress, Tally

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between looks at which workers live."""

_dropped: set[str] = set()
"""In a worker: keys of steps that nobody waits for any more."""


class Cluster:
    """The workers of the scheduler at ``where``, or of a new cluster of ``where`` processes that ends with the run."""

    def __init__(self, where: str | int, out: str, progress: Progress | None) -> None:
        self.where, self.out, self.progress = where, out, progress
        self.busy: dict[str, Future[Any]] = {}
        self.ended: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()
        self.alive: list[str] = []
        self.seen = self.looked = time.monotonic()
        self.own: LocalCluster | None = None

    def __enter__(self) -> Self:
        try:
            self.client = self._connected()
        except FatalCommClosedError as err:
            self._close(time.monotonic())
            raise InputError(f"GEOML_WORKERS: {self.where}: its certificates and ours do not fit") from err
        except (OSError, TimeoutError) as err:
            self._close(time.monotonic())
            raise TransientError(f"workers: no Dask scheduler at {self.where} ({err})") from err
        except BaseException:
            self._close(time.monotonic())
            raise
        self.seen = time.monotonic()
        self._look()
        return self

    def _connected(self) -> Client:
        how = {"timeout": settings().timeout, "set_as_default": False}
        if isinstance(self.where, str):
            return Client(self.where, security=credentials(self.where), **how)
        self.own = _start(self.where)
        return Client(self.own, **how)

    def idle(self) -> list[str]:
        if not self.alive and time.monotonic() - self.seen > settings().timeout:
            raise TransientError(f"workers: the Dask scheduler at {self.where} has had no worker for a while")
        return [name for name in self.alive if name not in self.busy]

    def give(self, worker: Hashable, ids: Sequence[str]) -> None:
        assert isinstance(worker, str)
        future = self.client.submit(
            _step, self.out, list(ids), current_signatures(), workers=[worker], pure=False, retries=0
        )
        self.busy[worker] = future
        future.add_done_callback(lambda f: self.ended.put((worker, f)))

    def news(self) -> list[News]:
        found: list[tuple[str, Tally | Died | BaseException]] = []
        with suppress(queue.Empty):
            worker, future = self.ended.get(timeout=0.5)
            if self.busy.get(worker) is future:
                found.append((worker, self._outcome(future)))
        if time.monotonic() - self.looked > LOOK:
            self._look()
            gone = set(self.busy) - set(self.alive) - {name for name, _ in found}
            for worker in gone:
                self.busy[worker].cancel()
                found.append((worker, Died(f"at {worker} is gone from the Dask cluster")))
        for worker, _ in found:
            del self.busy[worker]
        return [*found]

    def _look(self) -> None:
        try:
            self.alive = list(self.client.nthreads())
        except (OSError, TimeoutError) as err:
            raise TransientError(f"workers: the Dask scheduler at {self.where} is gone ({err})") from err
        self.looked = time.monotonic()
        if self.alive:
            self.seen = self.looked

    def _outcome(self, future: Future[Any]) -> Tally | Died | BaseException:
        if future.status == "finished":
            try:
                tally, pixels = future.result(timeout=settings().timeout)
            except (OSError, TimeoutError):  # what is done is on disk; only the sums are lost
                return Died("is gone from the Dask cluster with what it had to tell")
            if self.progress:
                for key in tally.done:
                    self.progress(key, pixels)
                for key in tally.failed:
                    self.progress(key, 0)
            return tally  # type: ignore[no-any-return]
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):
                return Died("ended again and again under Dask")
            if isinstance(error, ModuleNotFoundError):
                return InputError(f"GEOML_WORKERS: {error} on the Dask worker; expected the same packages as here")
            return error if isinstance(error, BaseException) else RuntimeError(str(error))
        return TransientError(f"workers: the Dask scheduler at {self.where} lost a batch ({future.status})")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        ends = time.monotonic() + STOPPING
        try:
            if kind is not None and self.busy:
                self._stop(ends - 2)
        finally:
            self._close(ends)

    def _stop(self, ends: float) -> None:
        """Let workers publish what is finished; what does not end in time is left to find out by itself."""
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

    def _close(self, ends: float) -> None:
        with suppress(OSError, TimeoutError):
            if hasattr(self, "client"):
                self.client.close(timeout=1)
        with suppress(OSError, TimeoutError):
            if self.own is not None:
                self.own.close(timeout=max(1.0, ends - time.monotonic()))


def _start(count: int) -> LocalCluster:
    """Processes that share the cores."""
    threads = max(1, settings().threads // count)
    logging.getLogger("distributed").setLevel(logging.ERROR)  # its diary is not the run's
    cluster = LocalCluster(**private(count, threads), silence_logs=logging.ERROR, env={"GEOML_THREADS": str(threads)})
    with Client(cluster, set_as_default=False) as client:
        client.run(_ours, logging.getLogger().getEffectiveLevel())
    return cluster


def _ours(level: int) -> None:
    """In a worker that geoml started: log as it does, and leave Ctrl-C, which a terminal tells everyone, to it."""
    logs.setup(level)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters comes back as an error of the step
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _drop(keys: Sequence[str]) -> None:
    _dropped.update(keys)


class _Dropped(Exception):
    """Nobody waits for this step any more: it leaves the block that it is in."""


def _step(out: str, ids: list[str], signatures: Signatures) -> tuple[Tally, int]:
    """In a worker: a batch of blocks with as many threads as the worker has; the tally and the pixels of a block."""
    import torch

    from geoml.engine.run.blocks import run_blocks
    from geoml.engine.run.plan import read_plan

    signatures.install()
    worker: Any = get_worker()
    key = worker.get_current_task()
    torch.set_num_threads(worker.state.nthreads)

    def wanted(_block: str, _pixels: int) -> None:
        task = worker.state.tasks.get(key)
        if key in _dropped or task is None or task.state != "executing":
            raise _Dropped

    return run_blocks(out, ids, wanted), read_plan(out).recipe.block_size ** 2
