"""``geoml track``: what moves through frames, with ids, speeds and places on the ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Json, command, out_console
from geoml.engine.track.recipe import TrackRecipe
from geoml.texts import counted

SCORES = {"HOTA": "hota", "DetA": "deta", "AssA": "assa", "MOTA": "mota", "IDF1": "idf1"}


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "track")(track)


@options.from_recipe(TrackRecipe)
def track(
    recipe: TrackRecipe,
    out: Annotated[Path, typer.Option("--out", help=".parquet of positions; tracks go to .tracks.parquet beside it")],
    frames: Annotated[
        str | None, typer.Argument(help="a folder of frames or a video; none if there are only detections")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="folder of the index of the reference; else inside OUT.run")
    ] = None,
    as_json: Json = False,
) -> None:
    """Track detected objects over frames, on the ground, with ids and speeds.

    Example:
    geoml track film.mp4 -m kit-cars --fps 25 -o tracks.parquet
    """
    from geoml.cli.progress import counter
    from geoml.geolocation import steps

    with counter("frames") as advance:
        found = steps.track(frames, out, cache=cache, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(found))
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    one, two = found["files"]
    out_console.print(
        f"{counted(found['positions'], 'position')} in {one},"
        f" {counted(found['tracks'], 'track')} in {two}, {found['moved']} of them moved",
        highlight=False,
    )
    elsewhere = f", {found['elsewhere']} in another photo" if found["elsewhere"] else ""
    out_console.print(
        f"{counted(found['frames'], 'frame')} with {counted(found['detections'], 'detection')};"
        f" {found['dropped']} not sure enough{elsewhere}"
    )
    for what, reasons in (("could not be read", found["unread"]), ("could not be placed", found["unplaced"])):
        if reasons:
            out_console.print(f"{counted(len(reasons), 'frame')} {what}; {reasons[0]}", highlight=False)
    for note in found["notes"]:
        out_console.print(note, highlight=False)
    if found["scores"]:
        table = Table("tracker", *SCORES, "switches", title="against the truth, %")
        for name, scores in found["scores"].items():
            table.add_row(name, *(f"{100 * scores[key]:.2f}" for key in SCORES.values()), str(scores["switches"]))
        out_console.print(table)
