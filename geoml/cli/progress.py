"""Progress of a run in a terminal or a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from geoml.cli.resume import resumable
from geoml.cli.terminal import Terminal, escaped
from geoml.errors import GeomlError
from geoml.io.cards.domain import described

if TYPE_CHECKING:
    from geoml.engine.run.plan import Plan


class Bar:
    """Blocks done of all, megapixels a second and the time left, wherever the blocks run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("searching", total=None, rate="")
        self._pixels: Counter[str] = Counter()
        self._block = self._blocks = self._done = self._failed = 0

    def start(self, plan: Plan, todo: Sequence[str]) -> None:
        """The plan is made and ``todo`` blocks are left."""
        self._block, self._blocks = plan.recipe.block_size**2, len(plan.blocks)
        self._done = len(plan.blocks) - len(todo)
        self._progress.update(self._task, total=len(todo) * self._block / 1e6)
        self._show()

    def advance(self, block: str, pixels: int) -> None:
        """``pixels`` more of ``block`` are finished; 0: it failed. What is done once more counts once."""
        new = min(pixels or self._block, self._block - self._pixels[block])
        self._pixels[block] += new
        if pixels == 0:
            self._failed += 1
        elif new and self._pixels[block] == self._block:
            self._done += 1
        self._progress.update(self._task, advance=new / 1e6)
        self._show()

    def _show(self) -> None:
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:.1f} Mpx/s" if speed else ""
        failed = f", {self._failed} failed" if self._failed else ""
        self._progress.update(self._task, description=f"{self._done} of {self._blocks} blocks{failed}", rate=rate)


@contextmanager
def progress_bar(out: str | Path) -> Iterator[Bar]:
    """A `live_bar` of the run in ``out``.

    A run that is stopped, or was finished before, is told, see `geoml.cli.resume.resumable`.
    """
    from geoml.io.stores.remote import run_store

    with resumable(out, lambda: _kept(out), lambda: run_store(out).local / "run.json"), live_bar() as bar:
        yield bar


@contextmanager
def live_bar() -> Iterator[Bar]:
    """A progress bar on standard error or in a notebook; silent where that is not a terminal."""
    console = Terminal(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    bar = Progress(*columns, console=console, disable=not (console.is_terminal or console.is_jupyter))
    shown = Bar(bar)
    with bar:
        yield shown


def _kept(out: str | Path) -> str:
    """What is published of a run, which is less than the bar has seen go by."""
    from geoml.engine.run.state import state

    try:
        found = state(out)
    except GeomlError:  # it was stopped before there was a plan, or its place cannot be read
        return "nothing is done yet"
    return f"{found.done} of {found.planned} blocks are done"


def print_domain(run: Mapping[str, Any]) -> None:
    """One line on standard error: whether the images of a run are like the training data of its model."""
    domain, words = run.get("domain"), described(run)
    if not words:
        return
    style = {"inside": "green", "outside": "red"}.get(domain["verdict"], "yellow") if domain else ""
    mark = "" if domain is None or domain["verdict"] == "inside" else "Warning: "
    Terminal(stderr=True, soft_wrap=True).print(escaped(f"{mark}{words}", style))


@contextmanager
def counter(what: str, out: str | Path | None = None) -> Iterator[Callable[[int], None]]:
    """How many of ``what`` are done, of an unknown number, on standard error; silent where that is not a terminal.

    With ``out`` it is told what is kept there when the work is stopped.
    """
    console = Terminal(stderr=True)
    columns = (TextColumn("{task.completed:.0f} {task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    task = bar.add_task(what, total=None)
    around = nullcontext() if out is None else resumable(out, lambda: f"{bar.tasks[task].completed:.0f} {what}")
    with around, bar:
        yield lambda n: bar.advance(task, n)
