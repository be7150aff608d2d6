"""The bar counts blocks and pixels once, however they come."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rich.progress import Progress

from geoml.cli.progress import Bar


def test_the_bar_counts_blocks_once_and_ends_full() -> None:
    plan: Any = SimpleNamespace(recipe=SimpleNamespace(block_size=1000), blocks=range(5))
    with Progress(disable=True) as progress:
        bar = Bar(progress)
        bar.start(plan, ["a", "b", "c"])
        (task,) = progress.tasks
        assert (task.description, task.total) == ("2 of 5 blocks", 3.0)
        bar.advance("a", 400_000)
        bar.advance("a", 600_000)
        bar.advance("b", 700_000)
        bar.advance("b", 1_000_000)  # its worker died, and another one did all of it
        assert task.description == "4 of 5 blocks"
        bar.advance("b", 1_000_000)
        assert task.description == "4 of 5 blocks"
        assert task.completed == 2.0
        bar.advance("c", 0)
        assert task.description == "4 of 5 blocks, 1 failed"
        assert task.completed == task.total
        assert "Mpx/s" in task.fields["rate"]
