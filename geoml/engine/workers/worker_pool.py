"""What the driver of a run expects of a pool of workers, and the results that it hands back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from geoml.engine.run.tally import Tally

STOP_SECONDS = 6.0
"""Seconds that workers have to publish what is finished once they have to stop."""


@dataclass(frozen=True)
class WorkerDied:
    """A worker ended while it had a batch; ``reason`` completes "the process …"."""

    reason: str


BatchResult = tuple[Hashable, "Tally | WorkerDied | BaseException"]


class WorkerPool(Protocol):
    """Workers by name. As a context manager it lets them finish; left by an exception it stops them cleanly."""

    def idle(self) -> Sequence[Hashable]:
        """Workers that could take a batch now. Raises TransientError if there have been none for too long."""
        ...

    def submit(self, worker: Hashable, ids: Sequence[str]) -> None:
        """Start a batch on an idle worker."""
        ...

    def results(self) -> Sequence[BatchResult]:
        """The batches that ended, after a short wait for one; each worker named is idle or gone."""
        ...
