"""``geoml predict``: a region, a time range and a model in; a map out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import command, out_console, say_left_out, warn
from geoml.recipe import PredictRecipe


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "predict")(predict)


@options.of(PredictRecipe)
def predict(
    recipe: PredictRecipe,
    out: Annotated[str, typer.Option("--out", help="folder of the run, or s3://bucket/prefix (gs, az)")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="search, check and count blocks; read no pixel")] = False,
) -> None:
    """A map: COGs, GeoParquet, STAC items and a report in OUT. Run it again to go on after a stop."""
    from geoml import pipeline
    from geoml.cli.progress import show
    from geoml.engine.run.plan import make_plan

    if dry_run:
        made, items = make_plan(recipe)
        zones = ", ".join(z.plane.code for z in made.zones)
        said = f"{len(items)} items, {len(made.blocks)} blocks of {recipe.block_size} pixels in {zones}"
        out_console.print(f"{said}; nothing was read")
        say_left_out(made.left_out)
        return
    with show() as bar:
        run = pipeline.predict(recipe, out, progress=bar.advance, started=bar.start)
    outputs(out, run)
    warn(run)


def outputs(out: str | Path, run: dict[str, Any]) -> None:
    """A table of what a run wrote, and whether its images are like the training data."""
    from geoml.cli.progress import domain
    from geoml.io.stores.remote import run_store

    sizes = run_store(out).sizes()
    table = Table("file", "size", "what", title=f"{len(run['blocks']['done'])} blocks in {out}")
    for name, what in run["files"].items():
        size = sum(n for key, n in sizes.items() if key == name or key.startswith(f"{name}/"))
        table.add_row(name, f"{size / 1e6:.2f} MB", what)
    out_console.print(table)
    out_console.print(f"{run['valid_percent']:.1f} % of the region has data", highlight=False)
    say_left_out(run.get("left_out", {}))
    domain(run)
