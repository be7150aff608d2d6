"""The tables of options in the documents are those of the fields; ``make docs`` writes them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from geoml.cli import app
from geoml.data.recipe import TrainRecipe
from geoml.settings import Settings
from tests.docs import documents, tables

DOCUMENTS = {n: (documents.ROOT / n).read_text(encoding="utf-8") for n in documents.names()}
MARKED = {m[1]: n for n, text in DOCUMENTS.items() for line in text.splitlines() if (m := tables.MARK.match(line))}


@pytest.mark.parametrize("name", sorted(set(MARKED.values())))
def test_a_table_is_what_the_fields_say(name: str) -> None:
    assert tables.written(DOCUMENTS[name]) == DOCUMENTS[name], "make docs writes the tables anew"


def test_every_command_that_is_made_of_a_recipe_has_its_table() -> None:
    root: Any = typer.main.get_command(app)
    left = [("geoml", root)]
    made: set[str] = set()
    while left:
        name, command = left.pop()
        left += [(f"{name} {word}", one) for word, one in getattr(command, "commands", {}).items()]
        taken = inspect.signature(inspect.unwrap(command.callback or len), eval_str=True).parameters.values()
        made |= {name for p in taken if isinstance(p.annotation, type) and issubclass(p.annotation, BaseModel)}
    assert len(made) >= 4
    assert made | {"settings", "geoml.data.recipe.TrainRecipe", "geoml.io.cubes.spec.CubeSpec"} == set(MARKED)


def test_what_was_changed_by_hand_is_written_anew() -> None:
    text = DOCUMENTS["docs/all-of-geoml.md"]
    changed = text.replace("| `--block-size` | 2048 |", "| `--block-size` | 4096 |")
    changed = changed.replace("| `GEOML_RETRIES` |", "| `RETRIES` |")
    assert changed != text
    assert tables.written(changed) == text
    assert tables.written("a\n<!-- table: settings -->\n").count("\n") == len(Settings.model_fields) + 4


def test_a_row_for_each_field_and_each_option() -> None:
    rows = [re.findall(r"`([^`]+)`", line)[0] for line in tables.table("geoml.data.recipe.TrainRecipe")[2:]]
    assert {r.partition(".")[0] for r in rows} == set(TrainRecipe.model_fields)
    assert len(set(rows)) == len(rows)
    for what in MARKED:
        for line in tables.table(what)[2:]:
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) == 5, line
            assert cells[3].strip(), f"{what}: {cells[1]} has no description"
