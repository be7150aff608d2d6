"""Scores on a terminal, as the table of their task has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from geoml.cli.common import out_console


def print_scores(task: str, scores: Mapping[str, Any]) -> None:
    """Print scores of a task as `geoml.pipeline.evaluate` gives them, or as a card holds them."""
    from geoml.engine.task import find

    for part in find(task).table(scores):
        if isinstance(part, str):
            out_console.print(part, highlight=False)
            continue
        table = Table(*part.columns, title=part.title)
        for row in part.rows:
            table.add_row(*row)
        out_console.print(table)
