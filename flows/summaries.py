"""A summary of a run beside the end of its flow, with its failed blocks where there are some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.artifacts import create_markdown_artifact

from geoml.engine import summary

from .show import publish


@contextmanager
def summarised(out: str) -> Iterator[None]:
    """Show what the run in ``out`` came to when what collects it has ended, also when it raised for failed blocks."""

    def show() -> None:
        if words := summary.of_run(out):
            create_markdown_artifact(words, key="summary")

    try:
        yield
    finally:
        publish(show)
