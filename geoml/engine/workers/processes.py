"""Workers as processes of this machine.

They are spawned and not forked, for torch and GDAL have threads. A pool of the standard library would not do: when one
of its processes dies it ends all of them and does not say who died.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Self

from geoml import logs
from geoml.engine.machine.shutdown import graceful_shutdown
from geoml.engine.workers.worker_pool import STOP_SECONDS, BatchResult, WorkerDied
from geoml.errors import GeomlError, TransientError
from geoml.io.stores.signed import current_signatures
from geoml.settings import settings

if TYPE_CHECKING:
    from geoml.engine.run.tally import Progress


class _Worker:
    """One spawned process and this end of the pipe to it."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        self.process = context.Process(target=_serve, args=(there, threads, level), name="geoml-worker", daemon=True)
        with _ignoring_interrupts():
            self.process.start()
        there.close()
        self.ready = False

    def reason(self) -> str:
        """How the process ended, in words."""
        self.process.join(STOP_SECONDS)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"ended by signal {-code} ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"


class Processes:
    """``count`` processes that share the cores; each is started with its first batch."""

    def __init__(self, count: int, out: str, progress: Progress | None) -> None:
        self.out, self.progress = out, progress
        self.threads = max(1, settings().threads // count)
        self.workers: dict[int, _Worker | None] = dict.fromkeys(range(count))
        self.busy: set[int] = set()

    def idle(self) -> Sequence[int]:
        return [name for name in self.workers if name not in self.busy]

    def submit(self, worker: Hashable, ids: Sequence[str]) -> None:
        assert isinstance(worker, int)
        process = self.workers[worker] or _Worker(self.threads)
        self.workers[worker] = process
        self.busy.add(worker)
        with suppress(OSError):  # it died while it was idle; reading from it will show that
            process.pipe.send((self.out, list(ids), current_signatures()))

    def results(self) -> list[BatchResult]:
        pipes = {w.pipe: name for name, w in self.workers.items() if w is not None and name in self.busy}
        ended: list[BatchResult] = []
        for pipe in wait(list(pipes), timeout=0.5):
            assert isinstance(pipe, Connection)
            name = pipes[pipe]
            worker = self.workers[name]
            assert worker is not None
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                reason = worker.reason()
                if not worker.ready:
                    raise TransientError(f"workers: a process {reason} before it could work") from None
                self.workers[name] = None
                message = WorkerDied(reason)
            if message is None:
                worker.ready = True
            elif isinstance(message, tuple):
                if self.progress:
                    self.progress(*message)
            else:
                self.busy.discard(name)
                ended.append((name, message))
        return ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        running = [w for w in self.workers.values() if w is not None]
        for worker in running:
            worker.pipe.close()  # the end for one that is idle
            if kind is not None and worker.process.is_alive():
                worker.process.terminate()
        ends = time.monotonic() + STOP_SECONDS
        for worker in running:
            worker.process.join(max(0.0, ends - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C: a terminal sends it to all, and this one decides for the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: Connection, threads: int, level: int) -> None:
    """What a worker runs: batches in; progress, then the tally or the error out. Ends with the process it serves."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "GEOML_THREADS": str(threads)}
    logs.setup(level)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), name="geoml-parent", daemon=True).start()
    import torch  # after the number of its threads is set

    from geoml.engine.run.blocks import run_blocks

    torch.set_num_threads(threads)
    pipe.send(None)
    while True:
        try:
            out, ids, signatures = pipe.recv()
        except (EOFError, OSError):
            return
        signatures.install()
        result: object
        with graceful_shutdown():
            try:
                result = run_blocks(out, ids, lambda block, pixels: pipe.send((block, pixels)))
            except GeomlError as err:
                result = err
            except Exception as err:  # one of another library need not survive pickling
                result = RuntimeError(f"{type(err).__name__}: {err}\n{traceback.format_exc()}")
        with suppress(BrokenPipeError):  # the other end is closed
            pipe.send(result)


def _end_with(parent: int) -> None:
    """A worker that outlived the process it serves would compete with the one that resumes the run."""
    wait([parent])
    os._exit(1)
