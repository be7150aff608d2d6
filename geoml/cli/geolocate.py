"""``geoml geolocate``: where pictures were taken, and what goes with it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from typer.core import TyperGroup

from geoml.cli import geolocate_map as cli_geolocate_map
from geoml.cli import options
from geoml.cli.common import Json, command, err_console, out_console
from geoml.errors import DataError, GeomlError
from geoml.geolocation.recipe import LocateRecipe


class RunOr(TyperGroup):
    """A first word that is no subcommand begins the sources of the run; a file of such a name is given as ./NAME."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


geolocate = typer.Typer(
    cls=RunOr,
    help="Where pictures were taken: geoml geolocate IMAGES… --out FILE.parquet, which is the command run below.",
    no_args_is_help=True,
)
index = typer.Typer(help="The index that similar pictures are looked up in.", no_args_is_help=True)
geolocate.add_typer(index, name="index")
cli_geolocate_map.add(geolocate)


def register(app: typer.Typer) -> None:
    """Add the group ``geoml geolocate``."""
    app.add_typer(geolocate, name="geolocate")


Images = Annotated[
    list[str], typer.Argument(metavar="IMAGES…", help="pictures, folders, globs, lists (CSV, Parquet), STAC items")
]
Model = Annotated[
    str | None, typer.Option("--model", help="name or package directory; may stay away where one locator is there")
]
IndexDir = Annotated[Path, typer.Option("--index", help="folder of the index")]


@command(geolocate, "run")
@options.from_recipe(LocateRecipe, where="geolocate")
def run(
    recipe: LocateRecipe,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="GeoParquet file; run again to go on after a stop")],
    map: Annotated[Path | None, typer.Option("--map", help="also a page that works without a network")] = None,
    as_json: Json = False,
) -> None:
    """A row for each picture: the place, how sure that is, or why there is none."""
    from geoml.cli.progress import counter
    from geoml.geolocation import steps

    with counter("pictures") as advance:
        found = steps.geolocate(images, out=out, map=map, progress=advance, **dict(recipe))
    if as_json:
        print(json.dumps(found))
        return
    said = ", ".join(f"{n} {status}" for status, n in found["statuses"].items())
    km = found["precision"]["rounded_to_km"]
    where = f"rounded to regions of {km:g} km" if km else "exact"
    out_console.print(
        f"{found['pictures']} pictures in {out}: {said}; {found['computed']} computed now; places {where}"
    )


@command(geolocate, "verify")
def verify(
    images: Images,
    lon: Annotated[float | None, typer.Option("--lon", help="claimed place, degrees; else of the list or EXIF")] = None,
    lat: Annotated[float | None, typer.Option("--lat", help="claimed place, degrees")] = None,
    radius: Annotated[float, typer.Option("--radius", help="km within which the claim would be right")] = 50.0,
    prior: Annotated[
        str, typer.Option("--prior", help="without the picture: training places, or uniform")
    ] = "training",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Does a picture fit the place where it is said to be taken? Evidence, not a place."""
    from geoml.geolocation import steps

    found = steps.verify(images, model, lon=lon, lat=lat, radius_km=radius, prior=prior)
    if as_json:
        print(json.dumps([e.as_dict() for e in found]))
        return
    table = Table(Column("picture", overflow="fold"), "the picture", "likelihood ratio", "percentile", "EXIF", "clock",
                  "sun", "reason")  # fmt: skip
    for e in found:
        ratio = "" if e.log_likelihood_ratio is None else f"{_exp(e.log_likelihood_ratio)}"
        level = "" if e.percentile is None else f"{e.percentile:.0%}"
        exif = e.exif if e.exif_km is None else f"{e.exif}, {e.exif_km:.0f} km"
        height = "" if e.sun_deg is None else f"{e.sun_deg:.0f}°"
        table.add_row(e.image_id, e.verdict or e.status, ratio, level, exif, e.clock, height, e.reason or "")
    out_console.print(table)
    out_console.print("Evidence of a model, not proof: see docs/geolocate.md before you publish it.")


@command(geolocate, "similar")
def similar(
    image: Annotated[str, typer.Argument(help="a picture")],
    index: IndexDir,
    k: Annotated[int, typer.Option("--k", help="so many")] = 10,
    bbox: Annotated[
        tuple[float, float, float, float] | None, typer.Option("--bbox", metavar="W S E N", help="degrees")
    ] = None,
    datetime: Annotated[str, typer.Option("--datetime", help="date or interval, such as 2024-01-01/..")] = "../..",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """The pictures of an index that look most like one."""
    from geoml.geolocation import steps

    found = steps.similar(image, index, model, k=k, bbox=bbox, datetime=datetime)
    if as_json:
        rows = [{n: getattr(one, n) for n in one.__slots__} for one in found]
        print(json.dumps(rows, default=lambda v: v.isoformat() if isinstance(v, dt.datetime) else str(v)))
        return
    table = Table("score", Column("picture", overflow="fold"), "lon", "lat", "time")
    for one in found:
        place = ("" if v is None else f"{v:.4f}" for v in (one.lon, one.lat))
        table.add_row(f"{one.score:.3f}", one.source_uri or one.image_id, *place, str(one.time or ""))
    out_console.print(table)


@command(index, "add")
def index_add(images: Images, index: IndexDir, model: Model = None) -> None:
    """Add pictures; each content is there once."""
    from geoml.geolocation import steps

    found = steps.index_add(images, index, model)
    for name, why in found["failed"].items():
        err_console.print(f"{name}: {why}", highlight=False)
    out_console.print(
        f"{found['added']} added, {found['known']} were there, {len(found['failed'])} could not be read; "
        f"{found['pictures']} pictures in {index}"
    )


@command(index, "remove")
def index_remove(
    names: Annotated[list[str], typer.Argument(help="names or checksums of pictures")],
    index: IndexDir,
    model: Model = None,
) -> None:
    """Take pictures out."""
    from geoml.geolocation import steps

    out_console.print(f"{steps.index_remove(names, index, model)} removed")


@command(geolocate, "localizability")
def localizability(images: Images, model: Model = None, as_json: Json = False) -> None:
    """How much a picture tells of its place: look before you publish. No place is shown."""
    from geoml.geolocation import steps

    found = steps.localizability(images, model)
    if as_json:
        print(json.dumps(found))
        return
    table = Table(Column("picture", overflow="fold"), "score", "", "GPS in the EXIF", "reason")
    for row in found:
        score = "" if row["score"] is None else f"{row['score']:.2f}"
        table.add_row(row["image_id"], score, row["words"] or "", "yes" if row["gps"] else "", row["reason"] or "")
    out_console.print(table)


@command(geolocate, "strip-exif")
def strip_exif(
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="folder of the copies")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace copies that are there")] = False,
) -> None:
    """Copies that say nothing of where, when and by whom; pixels and colours stay."""
    from geoml.geolocation import steps

    found = steps.strip_exif(images, out, overwrite=overwrite)
    failed = 0
    for name, what in found:
        if isinstance(what, GeomlError):
            failed += 1
            err_console.print(f"{name}: {what}", highlight=False)
        else:
            said = ", ".join(what.removed) or "nothing"
            out_console.print(f"{name}: removed {said}; {what.note}", highlight=False)
    if failed:
        raise DataError(f"{failed} of {len(found)} pictures have no copy; the reasons are above")


def _exp(ratio: float) -> str:
    """A likelihood ratio in words of numbers: 35 : 1, or 1 : 20."""
    from math import exp

    return f"{exp(ratio):.3g} : 1" if ratio >= 0 else f"1 : {exp(-ratio):.3g}"
