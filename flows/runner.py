"""Where the steps of a flow run: Prefect's task runners, chosen by the one setting ``GEOML_WORKERS``.

``here`` is one thread of the flow's process, ``processes:N`` are process pools of one, ``tcp://…`` is a Dask scheduler
and ``cluster:N`` a Dask cluster of this machine. Each slot holds one batch; `geoml.engine.workers.drive` decides what
happens to the batch of a worker that dies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prefect import Task
from prefect.futures import PrefectWrappedFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from geoml.engine.run.tally import Tally
from geoml.engine.workers.drive import parse
from geoml.engine.workers.worker_pool import BatchResult, WorkerDied
from geoml.errors import TransientError
from geoml.io.stores.signed import current_signatures
from geoml.settings import settings
from geoml.texts import counted

Runner = TaskRunner[Any]
Pending = PrefectWrappedFuture[Tally, Future[Any]]

PATIENCE = 120.0
"""Seconds that a Dask scheduler may be without workers."""


def enter(folder: str) -> dict[str, str]:
    """Pull step of a deployment: go to the folder it was deployed from, where this machine has it.

    Relative paths in parameters then mean the same as for ``python -m flows.predict``.
    """
    with suppress(OSError):
        os.chdir(folder)
    return {"directory": str(Path.cwd())}


class Steps:
    """The pool of `geoml.engine.workers.drive` whose workers are slots of Prefect's task runners."""

    def __init__(self, step: Task[..., Tally], out: str, on_tally: Callable[[Tally], None]) -> None:
        self.step, self.out, self.on_tally = step, out, on_tally
        self.kind, self.count, self.address = parse(settings().workers)
        self.runners: dict[Hashable, Runner] = {}
        self.futures: dict[Hashable, Pending] = {}
        self.stack = ExitStack()
        self.since = time.monotonic()

    def __enter__(self) -> Self:
        if self.kind in ("tcp", "cluster"):
            self.runners[0] = self.stack.enter_context(self._dask())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for runner in self.runners.values() if self.kind in ("here", "processes") else ():
            runner.__exit__(kind, error, at)
        self.stack.__exit__(kind, error, at)

    def _dask(self) -> Runner:
        from prefect_dask.task_runners import DaskTaskRunner

        from geoml.engine.workers.cluster_tls import credentials, private

        if self.kind == "tcp":
            return DaskTaskRunner(address=self.address, client_kwargs={"security": credentials(self.address)})
        return DaskTaskRunner(cluster_kwargs=private(self.count, threads=1))

    def idle(self) -> Sequence[int]:
        if self.kind == "tcp":
            self.count = len(self.runners[0].client.nthreads())  # type: ignore[attr-defined]
            self.since = time.monotonic() if self.count else self.since
            if time.monotonic() - self.since > PATIENCE:
                raise TransientError(f"GEOML_WORKERS: {self.address} has had no workers for {PATIENCE:.0f} s")
        return [n for n in range(self.count) if n not in self.futures]

    def submit(self, worker: Hashable, ids: Sequence[str]) -> None:
        name = f"{counted(len(ids), 'block')} from {ids[0]}"
        parameters = {"out": self.out, "ids": list(ids), "name": name, "signatures": current_signatures()}
        self.futures[worker] = self._runner(worker).submit(self.step, parameters)

    def _runner(self, worker: Hashable) -> Runner:
        if self.kind in ("tcp", "cluster"):
            return self.runners[0]
        if worker not in self.runners:
            kind = ThreadPoolTaskRunner if self.kind == "here" else ProcessPoolTaskRunner
            self.runners[worker] = kind(max_workers=1).__enter__()
        return self.runners[worker]

    def results(self) -> Sequence[BatchResult]:
        done = [n for n, future in self.futures.items() if future.wrapped_future.done()]
        if not done:
            time.sleep(0.1)
        return [(n, self._ended(n, self.futures.pop(n))) for n in done]

    def _ended(self, worker: Hashable, future: Pending) -> Tally | WorkerDied | BaseException:
        try:
            tally = future.result()
        except BrokenProcessPool:
            self.runners.pop(worker).__exit__(None, None, None)
            return WorkerDied("ended without a word")
        except Exception as err:
            return WorkerDied(f"was lost ({err})") if type(err).__name__ == "KilledWorker" else err
        self.on_tally(tally)
        return tally
