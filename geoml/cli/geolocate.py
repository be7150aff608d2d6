"""``geoml geolocate``: where pictures were taken, and what goes with it."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from typer.core import TyperGroup

from geoml.cli import options
from geoml.cli.common import Json, Runs, command, err_console, example, out_console, use_backend
from geoml.cli.resume import print_unchanged
from geoml.errors import DataError, GeomlError
from geoml.geolocation.recipe import LocateRecipe, LocatorRecipe, MapRecipe, SimilarRecipe, VerifyRecipe
from geoml.texts import counted, percent


class RunOr(TyperGroup):
    """A first word that is not a subcommand begins the sources of the run; a file of such a name is given as ./NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


geolocate = typer.Typer(
    cls=RunOr,
    help="Where pictures were taken: geoml geolocate IMAGES… --out FILE.parquet, which is the command run below.",
    epilog=example("geoml geolocate photos/ -m world-overhead -o places.parquet"),
    no_args_is_help=True,
)
index = typer.Typer(
    help="Manage the index for finding similar pictures.",
    epilog=example("geoml geolocate index add photos/ --index photos.index"),
    no_args_is_help=True,
)
geolocate.add_typer(index, name="index")


def register(app: typer.Typer) -> None:
    """Add the group ``geoml geolocate``."""
    app.add_typer(geolocate, name="geolocate")


Images = Annotated[
    list[str], typer.Argument(metavar="IMAGES…", help="pictures, folders, globs, lists (CSV, Parquet), STAC items")
]
IndexDir = Annotated[Path, typer.Option("--index", help="folder of the index")]


@command(geolocate, "run")
@options.from_recipe(LocateRecipe, where="geolocate")
def run(
    recipe: LocateRecipe,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="GeoParquet file; run again to resume after a stop")],
    map: Annotated[Path | None, typer.Option("--map", help="also a page that works without a network")] = None,
    backend: Runs = None,
    as_json: Json = False,
) -> None:
    """Locate pictures: one row each with the place and its uncertainty, or the reason why there is none.

    Example:
    geoml geolocate photos/ -m world-overhead \\
      -o places.parquet --map places.html
    """
    from geoml.cli.progress import counter
    from geoml.geolocation import steps

    use_backend(backend)
    with counter("pictures", out) as advance:
        summary = steps.geolocate(images, out=out, map=map, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(summary))
        return
    if summary["computed"] == 0:
        print_unchanged(out)
    statuses = ", ".join(f"{n} {status}" for status, n in summary["statuses"].items())
    km = summary["precision"]["rounded_to_km"]
    where = f"rounded to regions of {km:g} km" if km else "exact"
    made_by = f"features by {summary['backend']['name']} in {summary['backend']['precision']}"
    out_console.print(
        f"{counted(summary['pictures'], 'picture')} in {out}: {statuses}; {summary['computed']} computed now; "
        f"places {where}; {made_by}"
    )


@command(geolocate, "map")
@options.from_recipe(MapRecipe, where="geolocate map")
def geolocate_map(
    recipe: MapRecipe,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="GeoParquet file; run again to resume after a stop")],
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="folder of indexes and thresholds, so that runs share them; else inside OUT.run"),
    ] = None,
    map: Annotated[Path | None, typer.Option("--map", help="also a page that works without a network")] = None,
    backend: Runs = None,
    as_json: Json = False,
) -> None:
    """Locate pictures from above on a map: footprint, error in metres, or why they were not found.

    Example:
    geoml geolocate map frames/ --reference mosaic.tif -o found.parquet
    """
    from geoml.cli.progress import counter
    from geoml.geolocation import steps

    use_backend(backend)
    with counter("pictures", out) as advance:
        summary = steps.geolocate_map(images, out, cache=cache, map=map, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(summary))
        return
    if summary["computed"] == 0:
        print_unchanged(out)
    statuses = ", ".join(f"{n} {status}" for status, n in summary["statuses"].items())
    out_console.print(
        f"{counted(summary['pictures'], 'picture')} in {out}: {statuses}; {summary['computed']} computed now"
    )
    if "stages" not in summary:
        chosen = " or ".join(f"{n}" for n in summary["thresholds"])
        left = f"; {counted(len(summary['left_out']), 'frame')} left out" if summary["left_out"] else ""
        if chosen:
            out_console.print(f"accepted from {chosen} inliers on{left}")
    else:
        stages = ", ".join(f"{n} {stage}" for stage, n in summary["stages"].items()) or "none"
        out_console.print(f"answers by stage: {stages}")


@command(geolocate, "verify")
@options.from_recipe(VerifyRecipe, where="geolocate verify")
def verify(recipe: VerifyRecipe, images: Images, as_json: Json = False) -> None:
    """Check whether a picture fits the place where it is claimed to have been taken. Gives evidence, not a place.

    Example:
    geoml geolocate verify photo.jpg -m world-overhead --lon 12.33 --lat 45.44
    """
    from geoml.geolocation import steps

    evidence = steps.verify(images, **dict(recipe))
    if as_json:
        print(json.dumps([asdict(e) for e in evidence]))
        return
    table = Table(Column("picture", overflow="fold"), "the picture", "likelihood ratio", "percentile", "EXIF", "clock",
                  "sun", "reason")  # fmt: skip
    for e in evidence:
        ratio = "" if e.log_likelihood_ratio is None else f"{_exp(e.log_likelihood_ratio)}"
        level = percent(e.percentile, 0, none="")
        exif = e.exif if e.exif_km is None else f"{e.exif}, {e.exif_km:.0f} km"
        height = "" if e.sun_deg is None else f"{e.sun_deg:.0f}°"
        table.add_row(e.image_id, e.verdict or e.status, ratio, level, exif, e.clock, height, e.reason or "")
    out_console.print(table)
    out_console.print("Evidence of a model, not proof: see docs/geolocate.md before you publish it.")


@command(geolocate, "similar")
@options.from_recipe(SimilarRecipe, where="geolocate similar")
def similar(
    recipe: SimilarRecipe,
    image: Annotated[str, typer.Argument(help="a picture")],
    index: IndexDir,
    as_json: Json = False,
) -> None:
    """Find the pictures of an index that look most like a given one.

    Example:
    geoml geolocate similar photo.jpg --index photos.index
    """
    from geoml.geolocation import steps

    pictures = steps.similar(image, index, **dict(recipe))
    if as_json:
        print(json.dumps([asdict(one) for one in pictures], default=dt.datetime.isoformat))
        return
    table = Table("score", Column("picture", overflow="fold"), "lon", "lat", "time")
    for one in pictures:
        place = ("" if v is None else f"{v:.4f}" for v in (one.lon, one.lat))
        table.add_row(f"{one.score:.3f}", one.source_uri or one.image_id, *place, str(one.time or ""))
    out_console.print(table)


@command(index, "add")
@options.from_recipe(LocatorRecipe, where="geolocate index add")
def index_add(recipe: LocatorRecipe, images: Images, index: IndexDir) -> None:
    """Add pictures; duplicates are added once.

    Example:
    geoml geolocate index add photos/ --index photos.index
    """
    from geoml.geolocation import steps

    summary = steps.index_add(images, index, recipe.model)
    for name, why in summary["failed"].items():
        err_console.print(f"{name}: {why}", highlight=False)
    out_console.print(
        f"{summary['added']} added, {summary['known']} were already there, {len(summary['failed'])} could not be read; "
        f"{counted(summary['pictures'], 'picture')} in {index}"
    )


@command(index, "remove")
@options.from_recipe(LocatorRecipe, where="geolocate index remove")
def index_remove(
    recipe: LocatorRecipe,
    names: Annotated[list[str], typer.Argument(help="names or checksums of pictures")],
    index: IndexDir,
) -> None:
    """Remove pictures.

    Example:
    geoml geolocate index remove photo.jpg --index photos.index
    """
    from geoml.geolocation import steps

    out_console.print(f"{steps.index_remove(names, index, recipe.model)} removed")


@command(geolocate, "localizability")
@options.from_recipe(LocatorRecipe, where="geolocate localizability")
def localizability(recipe: LocatorRecipe, images: Images, as_json: Json = False) -> None:
    """Show how much a picture reveals about its place, before you publish it. Prints no place.

    Example:
    geoml geolocate localizability photos/
    """
    from geoml.geolocation import steps

    rows = steps.localizability(images, recipe.model)
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(Column("picture", overflow="fold"), "score", "", "GPS in the EXIF", "reason")
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.2f}"
        table.add_row(row["image_id"], score, row["words"] or "", "yes" if row["gps"] else "", row["reason"] or "")
    out_console.print(table)


@command(geolocate, "strip-exif")
def strip_exif(
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="folder of the copies")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace existing copies")] = False,
) -> None:
    """Copy pictures without their place, time and author; pixels and colours stay.

    Example:
    geoml geolocate strip-exif photos/ -o clean
    """
    from geoml.geolocation import steps

    outcomes = steps.strip_exif(images, out, overwrite=overwrite)
    failed = 0
    for name, what in outcomes:
        if isinstance(what, GeomlError):
            failed += 1
            err_console.print(f"{name}: {what}", highlight=False)
        else:
            removed = ", ".join(what.removed) or "nothing"
            out_console.print(f"{name}: removed {removed}; {what.note}", highlight=False)
    if failed:
        raise DataError(f"{failed} of {len(outcomes)} pictures have no copy; the reasons are above")


def _exp(ratio: float) -> str:
    """A likelihood ratio in words of numbers: 35 : 1, or 1 : 20."""
    from math import exp

    return f"{exp(ratio):.3g} : 1" if ratio >= 0 else f"1 : {exp(-ratio):.3g}"
