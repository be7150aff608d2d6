"""``geoml geolocate map``: pictures from above on a mosaic, among frames, or on what a catalog has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from geoml.cli.common import Json, command, out_console


def add(group: typer.Typer) -> None:
    """Register the command in the group ``geoml geolocate``."""
    command(group, "map")(find)


def find(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES…", help="pictures, folders, globs, lists (CSV, Parquet), STAC items")
    ],
    out: Annotated[Path, typer.Option("--out", help="GeoParquet file; run again to go on after a stop")],
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="GeoTIFF, folder of them or URL; may be given again")
    ] = None,
    frames: Annotated[
        list[str] | None, typer.Option("--frames", help="pictures with positions to match with, or a list of them")
    ] = None,
    catalog: Annotated[str | None, typer.Option("--catalog", help="name, URL or file of a STAC catalog")] = None,
    collection: Annotated[str | None, typer.Option("--collection", help="collection of the catalog")] = None,
    datetime: Annotated[str, typer.Option("--datetime", help="date or interval of the items")] = "../..",
    filter: Annotated[str | None, typer.Option("--filter", help="CQL2 text, such as eo:cloud_cover < 10")] = None,
    asset: Annotated[str | None, typer.Option("--asset", help="key of the items' file; else what shows most")] = None,
    items: Annotated[int, typer.Option("--max-items", help="items that a picture is matched with, at most")] = 12,
    model: Annotated[
        str | None, typer.Option("--model", help="locator that says where to search; may stay away where one is there")
    ] = None,
    use: Annotated[str, typer.Option("--use", help="position: of the list, else of the EXIF")] = "",
    near: Annotated[
        tuple[float, float] | None, typer.Option("--near", metavar="LON LAT", help="where pictures are, degrees")
    ] = None,
    within_km: Annotated[float, typer.Option("--within-km", help="how far such positions may be off")] = 1.0,
    frames_sigma: Annotated[
        float, typer.Option("--frames-sigma", help="metres that positions of frames are good to")
    ] = 5,
    scale: Annotated[
        list[float] | None, typer.Option("--scale", help="pixel sizes to match at, in pixels of the map: 1 2 4")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="folder of indexes; else inside OUT.run")] = None,
    map: Annotated[Path | None, typer.Option("--map", help="also write a map as one HTML file")] = None,
    as_json: Json = False,
) -> None:
    """Where pictures from above lie on a map: footprint, metres of error, or why they were not found."""
    from geoml.cli.progress import count
    from geoml.geolocation.map_steps import geolocate_map

    with count("pictures") as advance:
        found = geolocate_map(
            images, out, reference=reference or (), frames=frames or (), catalog=catalog, collection=collection,
            datetime=datetime, filter=filter, asset=asset, items=items, model=model,
            use=use.replace(",", " ").split(), near=near, within_km=within_km, frames_sigma=frames_sigma,
            scales=scale or (1.0,), cache=cache, map=map, progress=advance,
        )  # fmt: skip
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
