"""``geoml geolocate map``: pictures from above on a mosaic, among frames, or on what a catalog has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geoml.cli import options
from geoml.cli.common import Json, command, out_console
from geoml.geolocation.recipe import MapRecipe


def add(group: typer.Typer) -> None:
    """Register the command in the group ``geoml geolocate``."""
    command(group, "map")(find)


@options.from_recipe(MapRecipe, where="geolocate map")
def find(
    recipe: MapRecipe,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES…", help="pictures, folders, globs, lists (CSV, Parquet), STAC items")
    ],
    out: Annotated[Path, typer.Option("--out", help="GeoParquet file; run again to go on after a stop")],
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="folder of indexes and thresholds, so that runs share them; else inside OUT.run"),
    ] = None,
    map: Annotated[Path | None, typer.Option("--map", help="also a page that works without a network")] = None,
    as_json: Json = False,
) -> None:
    """Where pictures from above lie on a map: footprint, metres of error, or why they were not found."""
    from geoml.cli.progress import counter
    from geoml.geolocation.map_steps import geolocate_map

    with counter("pictures") as advance:
        found = geolocate_map(images, out, cache=cache, map=map, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(found))
        return
    said = ", ".join(f"{n} {status}" for status, n in found["statuses"].items())
    out_console.print(f"{found['pictures']} pictures in {out}: {said}; {found['computed']} computed now")
    if "stages" not in found:
        chosen = " or ".join(f"{n}" for n in found["thresholds"])
        left = f"; {len(found['left_out'])} frames left out" if found["left_out"] else ""
        if chosen:
            out_console.print(f"accepted from {chosen} inliers on{left}")
    else:
        stages = ", ".join(f"{n} {stage}" for stage, n in found["stages"].items()) or "none"
        out_console.print(f"answers by stage: {stages}")
