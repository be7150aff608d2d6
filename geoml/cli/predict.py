"""``geoml predict``: a region, a time range and a model in; a map out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Runs, command, out_console, print_warnings, use_backend
from geoml.engine.images.recipe import Asked, PredictAsked
from geoml.errors import InputError
from geoml.io.stac.left_out import summary
from geoml.recipe import PredictRecipe
from geoml.settings import settings
from geoml.texts import counted, percent


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "predict")(predict)


Out = Annotated[str, typer.Option("--out", help="folder of the run, or s3://bucket/prefix (gs, az)")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="search, check and count blocks; read no pixel")]


@options.from_recipe(PredictAsked)
def predict(asked: PredictAsked, out: Out, dry_run: DryRun = False, backend: Runs = None) -> None:
    """Make a map: COGs, GeoParquet, STAC items and a report in OUT. Run it again to resume after a stop.

    Example:
    geoml predict -m demo-itaipu -c demo \\
      -b -54.73 -25.46 -54.46 -25.15 -t 2020-05-18 --crs data -o itaipu
    geoml predict -m crops --image scene.tif -o crops-map
    """
    if not dry_run:
        run(asked, out, backend=backend)
        return
    from geoml.engine.images.settle import looked_at

    with looked_at(asked) as recipe:
        look(recipe, backend=backend)


def look(recipe: PredictRecipe, *, backend: str | None) -> None:
    """Print what a recipe would do."""
    _check_workers(backend)
    use_backend(backend)
    from geoml.engine.run.plan import make_plan

    plan, items = make_plan(recipe)
    zones = ", ".join(z.plane.code for z in plan.zones)
    blocks = f"{counted(len(plan.blocks), 'block')} of {recipe.block_size} pixels in {zones}"
    out_console.print(f"{counted(len(items), 'item')}, {blocks}; nothing was read")
    if plan.left_out:
        out_console.print(summary(plan.left_out), highlight=False)


def run(recipe: Asked, out: str, *, backend: str | None) -> None:
    """Predict as asked, and print what was written."""
    _check_workers(backend)
    use_backend(backend)
    from geoml import pipeline  # torch and all that, which a dry run does without
    from geoml.cli.progress import progress_bar

    with progress_bar(out) as bar:
        written = pipeline.predict(recipe, out, progress=bar.advance, started=bar.start)
    outputs(out, written)
    print_warnings(written)


def _check_workers(backend: str | None) -> None:
    if backend is not None and "://" in settings().workers:
        raise InputError(
            f"backend: the workers at {settings().workers} have settings of their own; set GEOML_BACKEND there"
        )


def outputs(out: str | Path, run: dict[str, Any]) -> None:
    """A table of what a run wrote, and whether its images are like the training data."""
    from geoml.cli.progress import print_domain
    from geoml.io.stores.remote import run_store

    sizes = run_store(out).sizes()
    table = Table("file", "size", "what", title=f"{counted(len(run['blocks']['done']), 'block')} in {out}")
    for name, what in run["files"].items():
        size = sum(n for key, n in sizes.items() if key == name or key.startswith(f"{name}/"))
        table.add_row(name, f"{size / 1e6:.2f} MB", what)
    out_console.print(table)
    out_console.print(f"{percent(run['valid_percent'] / 100)} of the region has data", highlight=False)
    if left_out := run.get("left_out"):
        out_console.print(summary(left_out), highlight=False)
    print_domain(run)
