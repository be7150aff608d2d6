"""What the files of commands share: consoles, and how an error becomes a line and an exit code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from geoml.cli.terminal import Terminal
from geoml.errors import GeomlError, limits
from geoml.redacted import redact
from geoml.registry import Registry
from geoml.texts import plain

P = ParamSpec("P")

out_console, err_console = Terminal(), Terminal(stderr=True)

_COMPLAINT: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for words of the command line, which it does not export under a name."""

Runs = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="|".join(("auto", *Registry("geoml.backends", "backend").names())),
        help="back end that runs the network; by default GEOML_BACKEND",
    ),
]
"""The back end of a command, for `use_backend`."""

Json = Annotated[bool, typer.Option("--json", help="print JSON")]


SHORT = {
    "--bbox": "-b",
    "--catalog": "-c",
    "--collection": "-C",
    "--datetime": "-t",
    "--dry-run": "-n",
    "--model": "-m",
    "--out": "-o",
    "--region": "-r",
}
"""Short names of options: the same in every command that has the option. ``-v`` is that of the program itself."""

EXAMPLE = "\n\nExample:\n"
"""What begins the example in the docstring of a command."""


class ShortOptions(TyperCommand):
    """A command whose common options have the names in `SHORT` too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for param in self.params:
            param.opts = [*param.opts, *(SHORT[name] for name in param.opts if name in SHORT)]


def example(*lines: str) -> str:
    """Lines to type, as the end of a help."""
    return "\n".join(("Example:", *lines))


def command(group: typer.Typer, name: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command whose geoml errors become one line and the exit code of the error table.

    The docstring is its help; lines to type after ``Example:`` stand at the end of it.
    """

    def register(function: Callable[P, None]) -> Callable[P, None]:
        about, _, typed = inspect.cleandoc(function.__doc__ or "").partition(EXAMPLE)
        lines = typed.splitlines()

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            from geoml.settings import settings

            try:
                settings()  # a wrong setting ends a command before any work, also one that does not need it
                with limits(name):
                    function(*args, **kwargs)
            except GeomlError as err:
                err_console.print(Text(f"{type(err).__name__} ", "bold red"), end="")
                err_console.print(str(err), highlight=False)
                raise typer.Exit(err.exit_code) from err
            except KeyboardInterrupt:
                from geoml.engine.machine.shutdown import exit_after

                exit_after(2.0, 130)  # a read that hangs must not keep the command alive
                raise

        ends = example(*lines) if lines else None
        group.command(name, cls=ShortOptions, help=about, epilog=ends)(run)
        return run

    return register


def print_warnings(record: Mapping[str, Any]) -> None:
    """What a reader of a run or a stream has to know, on standard error."""
    for warning in record.get("warnings", ()):
        err_console.print(Text("Warning ", "bold yellow"), end="")
        err_console.print(warning, highlight=False)


class Commands(TyperGroup):
    """A group whose errors about the words of the command line are one line, as all others."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _one_line_errors():
            return super().make_context(info_name, _boxes(args), parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


BBOX = ("--bbox", "-b")


def _boxes(args: list[str]) -> list[str]:
    """Words with ``--bbox W,S,E,N``, as other programs write it, in four."""
    out: list[str] = []
    for word in args:
        name, equals, value = word.partition("=")
        text = value if equals and name in BBOX else word if out and out[-1] in BBOX else ""
        if text.count(",") == 3:
            out += [*([name] if equals else []), *(part.strip() for part in text.split(","))]
        else:
            out.append(word)
    return out


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except _COMPLAINT as err:
        if type(err).__name__ != "NoArgsIsHelpError":  # whose message is our help
            err.message = plain(redact(str(err.message)))  # type: ignore[attr-defined]
        raise


def use_backend(name: str | None) -> None:
    """Use a back end here and in processes that this one starts; None leaves that of the settings.

    Raises InputError for one that is not known.
    """
    from geoml.settings import override

    if name is None:
        return
    if name != "auto":
        Registry("geoml.backends", "backend").file(name)
    override(backend=name)


def print_scores(task: str, scores: Mapping[str, Any]) -> None:
    """Print scores of a task as `geoml.pipeline.evaluate` returns them, or as a card holds them, in its tables."""
    from geoml.engine.task import find

    for part in find(task).table(scores):
        if isinstance(part, str):
            out_console.print(part, highlight=False)
            continue
        table = Table(*part.columns, title=part.title)
        for row in part.rows:
            table.add_row(*row)
        out_console.print(table)
