"""The tables of options in the documents, made of the fields: ``make docs`` writes them, a test compares them.

A mark on the line before a table says what it shows, ``<!-- table: WHAT -->``: a command (``geoml predict``), a recipe
by its Python name (``geoml.data.recipe.TrainRecipe``), or ``settings``.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from geoml import fields
from geoml.cli import app
from geoml.settings import Settings, variable
from tests.docs import documents

MARK = re.compile(r"^<!-- table: (.+) -->$")


def written(text: str) -> str:
    """``text`` with its marked tables as the fields have them. Raises LookupError for a mark of nothing."""
    lines, out = iter(text.splitlines()), []
    for line in lines:
        out.append(line)
        if mark := MARK.match(line):
            out += table(mark[1])
            after = next((rest for rest in lines if not rest.startswith("|")), None)
            out += [] if after is None else [after]
    return "\n".join(out) + "\n"


def table(what: str) -> list[str]:
    """The lines of a table."""
    if what == "settings":
        return _lines("variable", _settings())
    if what.startswith("geoml "):
        return _lines("option", _command(what.split()[1:]))
    module, name = what.rsplit(".", 1)
    return _lines("field", _recipe(getattr(importlib.import_module(module), name)))


def _lines(first: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    cells = [(first, "default", "meaning"), *(tuple(c.replace("|", r"\|") for c in row) for row in rows)]
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in cells]
    return [lines[0], "|---|---|---|", *lines[1:]]


def _command(words: list[str]) -> Iterator[tuple[str, str, str]]:
    here: Any = typer.main.get_command(app)
    for word in words:
        here = here.commands[word]
    for one in here.params:
        name = "/".join((*one.opts, *one.secondary_opts)) if one.opts[0].startswith("-") else one.metavar or one.name
        values = one.metavar if one.opts[0].startswith("-") and one.metavar and one.metavar[0] != "<" else None
        shown = f"`{name} {values}`" if values else f"`{name if '-' in name else name.upper()}`"
        yield shown, "required" if one.required else _value(one.default), one.help


def _recipe(kind: Any) -> Iterator[tuple[str, str, str]]:
    for one in fields.walk(kind):
        choices = ", ".join(f"`{c}`" for c in one.choices)
        about = "; ".join(filter(None, (choices, one.about)))
        yield f"`{'.'.join((*one.within, one.name))}`", "required" if one.required else _value(one.default), about


def _settings() -> Iterator[tuple[str, str, str]]:
    for one in fields.walk(Settings):
        value = one.info.default  # none where it is of the machine, which the description says
        shown = value if isinstance(value, str) else json.dumps(value, default=str).removesuffix(".0")
        made = one.info.default_factory is not None or value is None
        yield f"`{variable(one.name)}`", "" if made else f"`{shown}`", one.about


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    try:
        return f"{float(value):.15g}"
    except (TypeError, ValueError):
        return f"`{value}`" if value and isinstance(value, str) else ""


def main() -> None:
    """Write the tables of all documents anew."""
    for name in documents.names():
        path = documents.ROOT / name
        before = path.read_text(encoding="utf-8")
        if (now := written(before)) != before:
            path.write_text(now, encoding="utf-8")
            print(f"wrote {name}")


if __name__ == "__main__":
    main()
