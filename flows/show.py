"""What a person sees of a run in Prefect: progress, a table of blocks, a summary with a picture, a digest."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.states import Completed

from geoml import pipeline
from geoml.engine import summary
from geoml.engine.run.plan import read_plan
from geoml.engine.run.state import state
from geoml.engine.run.tally import Tally
from geoml.io.cards.domain import described
from geoml.texts import listed

P = ParamSpec("P")
T = TypeVar("T")

EVERY = 2.0
"""Seconds between two updates of the progress."""

PATIENCE = 10.0
"""Seconds to wait at the end for the last update."""

ROWS = 1000
"""Of a table; failed blocks come first."""


def publish(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Show something in Prefect; None when its API does not answer, which stops no work."""
    try:
        return call(*args, **kwargs)
    except Exception as err:  # whatever it is, the data are worth more
        get_run_logger().warning("not shown in Prefect: %s", err)
        return None


class Progress:
    """A progress artifact of the blocks of one place.

    A thread of its own updates it: Prefect's client tries for minutes when the API is gone, and the blocks go on.
    """

    def __init__(self, out: str, total: int) -> None:
        self.total, self.seen, self.failed = total, 0, 0
        self.about = f"{total} blocks of {out}"
        self.changed, self.closed = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=copy_context().run, args=(self._update,), name="geoml-show", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.changed.set()
        self.thread.join(PATIENCE)

    def add(self, tally: Tally) -> None:
        """A batch came to its end."""
        self.seen += len(tally.done) + len(tally.skipped) + len(tally.failed)
        self.failed += len(tally.failed)
        self.changed.set()

    def _update(self) -> None:
        shown, last = publish(create_progress_artifact, 0.0, key="progress", description=self.about), False
        while isinstance(shown, UUID) and not last:
            self.changed.wait()
            self.changed.clear()
            last = self.closed.is_set()
            about = f"{self.seen} of {self.about}, {self.failed} failed"
            publish(update_progress_artifact, shown, min(100.0, 100 * self.seen / self.total), about)
            self.closed.wait(EVERY)


def blocks(out: str, before: Sequence[str], key: str = "blocks") -> None:
    """A table of the blocks with their state; ``before`` were still to do at the start."""
    now, left, mine = state(out), set(pipeline.todo(out)), set(before)
    rows = [{"block": k, "state": "failed", "reason": why} for k, why in now.failed.items()]
    for block in read_plan(out).by_id():
        if block not in now.failed:
            how = "to do" if block in left else "done" if block in mine else "skipped"
            rows.append({"block": block, "state": how, "reason": "was done before" if how == "skipped" else ""})
    about = f"{now.done} of {now.planned} blocks of {out} are done, {len(now.failed)} failed"
    publish(create_table_artifact, rows[:ROWS], key=key, description=about)


def changes(out: str, rows: Sequence[Mapping[str, object]], failed: Mapping[str, object]) -> None:
    """A table of the items that changed and of the days that failed, and a digest of both."""
    table = [{k: str(v) if k == "seen" else v for k, v in row.items()} for row in rows]
    table += [{"day": day, "change": "failed", "reason": str(err)} for day, err in failed.items()]
    if table:
        publish(create_table_artifact, table[:ROWS], key="changes", description=f"What changed in {out}")
        publish(lambda: create_markdown_artifact(summary.digest(out, rows, failed), key="digest"))


def completed(run: dict[str, Any]) -> Any:
    """The end of a flow: the contents of ``run.json``, and whether the images are like the training data."""
    said = [*filter(None, [described(run)]), *warning_line(run.get("warnings") or [])]
    return Completed(data=run, message="; ".join(said))


def warning_line(words: Sequence[str]) -> list[str]:
    """Warnings in one line; an empty list without any."""
    return [f"{len(words)} warning{'s'[: len(words) > 1]}: {listed(words, joined='; ')}"] if words else []
