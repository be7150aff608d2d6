"""What tests of printed output have in common: which command each is of, a wide terminal, and rows of tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer
from typer.testing import Result

from geoml.cli import app
from geoml.cli.common import err_console, out_console

Cli = Callable[..., Result]

PRINTED: dict[str, Callable[..., None]] = {}
"""The test of each command's printed output."""


def prints(*commands: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark the test of what commands print."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        PRINTED.update(dict.fromkeys(commands, test))
        return test

    return mark


def commands() -> set[str]:
    """All commands, ``geolocate index add`` for one, as the program itself lists them."""
    found, left = set(), [("", typer.main.get_command(app))]
    while left:
        name, command = left.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            found.add(name)
        else:
            left += [(f"{name} {word}".strip(), one) for word, one in inner.items()]
    return found


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no cell is cut; a console reads COLUMNS only once."""
    for console in (out_console, err_console):
        monkeypatch.setattr(console, "_width", 240)


@pytest.fixture
def said(cli: Cli) -> Callable[..., str]:
    """What a command prints; it has to end well."""

    def run(*words: Any) -> str:
        result = cli(*words)
        assert result.exit_code == 0, f"{result.output}{result.exception!r}"
        return result.stdout

    return run


def rows(printed: str) -> dict[str, list[str]]:
    """The rows of the tables in a text: first cell to the others."""
    lines = (line for line in printed.splitlines() if line.startswith(("│", "┃")))
    cells = [[c.strip() for c in re.split("[│┃]", line)[1:-1]] for line in lines]
    return {c[0]: c[1:] for c in cells}
