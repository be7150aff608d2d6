"""``geoml learn``: some labels in; a package, a map and an honest page out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoml.cli import options
from geoml.cli.common import command, out_console, print_scores, print_warnings
from geoml.engine.learn.recipe import LearnRecipe
from geoml.texts import counted

MODEL = "model"
"""Folder of the package in that of the run."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "learn")(learn)


@options.from_recipe(LearnRecipe, argument="labels")
def learn(
    recipe: LearnRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of the run; the package is OUT/model")],
    places: Annotated[
        int, typer.Option("--places", min=0, help="also draw this many places of the map to check, OUT/places.gpkg")
    ] = 0,
) -> None:
    """Map land cover from few labels: a package, a map of the region, and a page on how far it can be trusted.

    Example:
    geoml learn labels.gpkg --field class -c earth-search -C sentinel-2-l1c \\
      -r area.geojson -t 2024-04 -t 2024-06 -t 2024-08 -t 2024-10 -o learnt
    """
    from geoml.engine.run.estimate import COLUMN, sample_places
    from geoml.io.tables import place_files

    if places:
        place_files.check(out / "places.gpkg", COLUMN)
    learn_and_map(recipe, out, places)
    if places:
        frame = sample_places(out, places, out / "places.gpkg", recipe.seed)
        out_console.print(
            f"{counted(len(frame), 'place')} in {out / 'places.gpkg'}; fill in the column reference, then"
            " geoml area estimate",
            highlight=False,
        )


def learn_and_map(recipe: LearnRecipe, out: Path, places: int = 0) -> None:
    """Learn, say what held-out labels say, and map the region, of which so many places can be drawn then."""
    from geoml import pipeline
    from geoml.cli.predict import outputs
    from geoml.cli.progress import progress_bar

    card, run_recipe = pipeline.learn(recipe, out, places=places)
    print_scores(card.task, card.scores)
    with progress_bar(out) as bar:
        run = pipeline.predict(run_recipe, out, progress=bar.advance, started=bar.start)
    outputs(out, run)
    print_warnings(run)
