"""Progress of a run in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from geoml.engine.plan import Plan


class Bar:
    """A bar in megapixels, with the rate and the time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("searching", total=None, rate="")

    def start(self, plan: Plan, todo: Sequence[str]) -> None:
        """The plan is made and ``todo`` blocks are left."""
        pixels = len(todo) * plan.recipe.block_size**2
        self._progress.update(self._task, description=f"{len(todo)} of {len(plan.blocks)} blocks", total=pixels / 1e6)

    def advance(self, block: str, pixels: int) -> None:
        """``pixels`` more of ``block`` are finished."""
        speed = self._progress.tasks[self._task].speed
        rate = f"{speed:.1f} Mpx/s" if speed else ""
        self._progress.update(self._task, advance=pixels / 1e6, rate=rate)


@contextmanager
def show() -> Iterator[Bar]:
    """A progress bar on standard error; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        yield Bar(bar)
