"""What a person sees of a run in Prefect: progress, a table of blocks, a link to the report, a table of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any, Self

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.states import Completed

from geoml import pipeline
from geoml.engine.run.blocks import Tally
from geoml.engine.run.plan import read_plan
from geoml.engine.run.state import state
from geoml.io.cards.domain import describe
from geoml.texts import listed

EVERY = 2.0
"""Seconds between two updates of the progress."""

PATIENCE = 10.0
"""Seconds to wait at the end for the last update."""

ROWS = 1000
"""Of a table; failed blocks come first."""


def told(tell: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Show something in Prefect. That its API does not answer stops no work: then there is None."""
    try:
        return tell(*args, **kwargs)
    except Exception as err:  # whatever it is, the data are worth more
        get_run_logger().warning("not shown in Prefect: %s", err)
        return None


class Progress:
    """A progress artifact of the blocks of one place.

    A thread of its own tells it: Prefect's client tries for minutes when the API is gone, and the blocks go on.
    """

    def __init__(self, out: str, total: int) -> None:
        self.total, self.seen, self.failed = total, 0, 0
        self.about = f"{total} blocks of {out}"
        self.news, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=copy_context().run, args=(self._tell,), name="geoml-show", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.news.set()
        self.thread.join(PATIENCE)

    def add(self, tally: Tally) -> None:
        """A batch came to its end."""
        self.seen += len(tally.done) + len(tally.skipped) + len(tally.failed)
        self.failed += len(tally.failed)
        self.news.set()

    def _tell(self) -> None:
        shown, last = told(create_progress_artifact, 0.0, key="progress", description=self.about), False
        while shown and not last:
            self.news.wait()
            self.news.clear()
            last = self.over.is_set()
            about = f"{self.seen} of {self.about}, {self.failed} failed"
            told(update_progress_artifact, shown, min(100.0, 100 * self.seen / self.total), about)
            self.over.wait(EVERY)


def blocks(out: str, before: Sequence[str], key: str = "blocks") -> None:
    """A table of the blocks with their state, and a link to the report; ``before`` were still to do at the start."""
    now, left, mine = state(out), set(pipeline.todo(out)), set(before)
    rows = [{"block": k, "state": "failed", "reason": why} for k, why in now.failed.items()]
    for block in read_plan(out).by_id():
        if block not in now.failed:
            how = "to do" if block in left else "done" if block in mine else "skipped"
            rows.append({"block": block, "state": how, "reason": "was done before" if how == "skipped" else ""})
    about = f"{now.done} of {now.planned} blocks of {out} are done, {len(now.failed)} failed"
    told(create_table_artifact, rows[:ROWS], key=key, description=about)
    report = f"{out}/report.html" if "://" in out else (Path(out) / "report.html").resolve().as_uri()
    told(create_link_artifact, report, "report.html", key="report", description=f"Report of {out}")


def changes(out: str, rows: Sequence[dict[str, Any]], failed: dict[str, Any]) -> None:
    """A table of the items that changed, and of the days that failed."""
    table = [{k: str(v) if k == "seen" else v for k, v in row.items()} for row in rows]
    table += [{"day": day, "change": "failed", "reason": str(err)} for day, err in failed.items()]
    if table:
        told(create_table_artifact, table[:ROWS], key="changes", description=f"What changed in {out}")


def ended(run: dict[str, Any]) -> Any:
    """The end of a flow: what ``run.json`` says; whether the images are like the training data, and its warnings."""
    return Completed(data=run, message="; ".join([describe(run.get("domain")), *caution(run.get("warnings") or [])]))


def caution(words: Sequence[str]) -> list[str]:
    """Warnings in one line; no line where there is none."""
    return [f"{len(words)} warning{'s'[: len(words) > 1]}: {listed(words, joined='; ')}"] if words else []
