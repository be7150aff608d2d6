"""``geoml elevation``: terrain, surface, heights and buildings from points or from two views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Json, command, out_console, print_warnings
from geoml.elevation.recipe import ElevationRecipe
from geoml.io.cards.elevation import ACCURACY

SHOWN = ("", "points", "median", "RMSE", "NMAD", "LE90", "complete")
"""Columns that fit a terminal; the page has all."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "elevation")(elevation)


@options.from_recipe(ElevationRecipe)
def elevation(
    recipe: ElevationRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of the run")],
    as_json: Json = False,
) -> None:
    """Compute terrain and surface above a stated datum, heights and buildings, from points or from two images.

    Example:
    geoml elevation --points tiles/ --res 0.5 -o town
    """
    record = run_elevation(recipe, out, quiet=as_json)
    if as_json:
        print(json.dumps(record))


def run_elevation(recipe: ElevationRecipe, out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Make the heights, and say what was written; the contents of ``run.json``."""
    from geoml import pipeline
    from geoml.cli.predict import outputs
    from geoml.cli.progress import progress_bar
    from geoml.elevation import steps
    from geoml.engine.machine.shutdown import graceful_shutdown

    with graceful_shutdown(), pipeline.locked(out) as store:
        made = steps.elevation_run(recipe, out)
        with progress_bar(out) as bar:
            pipeline.run_planned(made, store, progress=bar.advance, started=bar.start)
        record = steps.finish(recipe, out)
    if not quiet:
        outputs(out, record)
        print_accuracy(out)
        print_warnings(record)
    return record


def print_accuracy(out: Path) -> None:
    """What check points say, where there were some."""
    path = out / ACCURACY
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    head, *rows = found["table"]
    shown = [head.index(name) for name in SHOWN]
    table = Table(*SHOWN, title="Errors at points that the heights did not see")
    for row in rows:
        table.add_row(*(row[k] for k in shown))
    if rows:
        out_console.print(table)
    for words in found["notes"]:
        out_console.print(words, highlight=False)
