"""What the files of commands share: consoles, and how an error becomes a line and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from geoml.errors import GeomlError, limits
from geoml.io.left_out import told

out_console, err_console = Console(), Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def warn(run: Mapping[str, Any]) -> None:
    """What a reader of the map has to know, on standard error."""
    for words in run.get("warnings", ()):
        err_console.print("[bold yellow]Warning[/]", end=" ")
        err_console.print(plain(words), highlight=False, soft_wrap=True)


def command(group: typer.Typer, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command whose geoml errors become one line and the exit code of the error table."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> None:
            from geoml.settings import settings

            try:
                settings()  # a wrong setting is said before any work, also where this command does not need it
                with limits(name):
                    function(*args, **kwargs)
            except GeomlError as err:
                err_console.print(f"[bold red]{type(err).__name__}[/]", end=" ")
                err_console.print(str(err), markup=False, highlight=False, soft_wrap=True)
                raise typer.Exit(err.exit_code) from err
            except KeyboardInterrupt:
                from geoml.engine.halt import deadline

                deadline(2.0, 130)  # a read that hangs must not keep a command that was told to end
                raise

        group.command(name)(run)
        return run

    return register


def plain(word: object) -> Text:
    """A word of a catalog as it is: no markup, and nothing that moves the cursor."""
    return Text("".join(c if c.isprintable() else "\ufffd" for c in str(word)))


def say_left_out(items: Mapping[str, str]) -> None:
    """One line about the items that were left out, if there are any."""
    if items:
        out_console.print(plain(told(items)))
