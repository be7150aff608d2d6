"""The steps that flows share: waiting for a run, and batches of blocks where the settings say."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import task_run

from geoml import pipeline
from geoml.backends.torch import choose
from geoml.engine.run.monitor import Scan
from geoml.engine.run.tally import Tally
from geoml.engine.workers import drive as driving
from geoml.errors import TransientError
from geoml.io.stores.signed import Signatures
from geoml.recipe import PredictRecipe

from .runner import Steps
from .show import Progress, publish

RETRIES = 2
"""Times that a batch with blocks that may work later is retried; then they count as failed."""

GPU = "gpu"
"""Global concurrency limit of which a batch on a GPU takes a slot: ``prefect gcl create gpu --limit 1``."""


def transient(_task: object, _run: object, state: State[object]) -> bool:
    """Only what may go away by itself is retried."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


def absolute(out: str) -> str:
    """``out`` as a process with another working directory finds it."""
    return out if "://" in out else str(Path(out).absolute())


@contextmanager
def exclusive(out: str, wait: float) -> Iterator[None]:
    """Hold the run in ``out``, for which ``wait`` seconds are waited. Raises TransientError, saying who has it."""
    ends = time.monotonic() + wait
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(pipeline.locked(out))
                break
            except TransientError as err:
                if time.monotonic() > ends:
                    raise
                get_run_logger().info("waiting: %s", err)
                time.sleep(min(5.0, wait / 10))
        yield


@contextmanager
def gpu() -> Iterator[None]:
    """A slot of the limit `GPU` where this process computes on one; none where there is no limit or no answer."""
    slot = concurrency(GPU, raise_on_lease_renewal_failure=False) if choose().torch.type == "cuda" else None
    if slot:
        publish(slot.__enter__)
    try:
        yield
    finally:
        if slot:
            publish(slot.__exit__, None, None, None)


@task(
    retries=RETRIES,
    retry_delay_seconds=[30, 300],
    retry_condition_fn=transient,
    persist_result=False,
    task_run_name="{name}",
)
def blocks(out: str, ids: list[str], name: str, signatures: Signatures) -> Tally:
    """Predict a batch of blocks. A batch that is retried skips the blocks that are done."""
    log = get_run_logger()
    signatures.install()
    with gpu():
        tally = pipeline.run_blocks(out, ids)
    for key, why in tally.failed.items():
        log.warning("block %s failed: %s", key, why)
    if tally.transient and task_run.run_count <= RETRIES:
        raise TransientError(f"{len(tally.transient)} blocks may work later, the first is {tally.transient[0]}")
    log.info("%s: %d done, %d already done, %d failed", name, len(tally.done), len(tally.skipped), len(tally.failed))
    return tally


def run_batches(out: str, ids: Sequence[str], batch: int) -> list[Tally]:
    """The blocks ``ids``, in batches, where ``GEOML_WORKERS`` says, with a progress artifact."""
    if not ids:
        return []
    with Progress(out, len(ids)) as shown, Steps(blocks, out, shown.add) as crew:
        return driving.drive(crew, out, ids, batch)


@task(retries=3, retry_delay_seconds=[10, 60, 300], retry_condition_fn=transient, persist_result=False)
def scan(recipe: PredictRecipe, out: str, lookback: int, until: str | None, fill: bool) -> Scan:
    """One search for the window of a monitor; a plan for each day of it."""
    return pipeline.scan(recipe, out, lookback=lookback, until=until, fill=fill)


@task(persist_result=False)
def gather(out: str, result: Scan) -> list[dict[str, Any]]:
    """Put all days together; the rows of what changed."""
    return pipeline.gather(out, result)


@task(persist_result=False)
def collect(out: str, tallies: list[Tally]) -> dict[str, Any]:
    """Merge features, write collection, run.json and the report."""
    return pipeline.collect(out, tallies)
