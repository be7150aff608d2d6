"""``geoml catalogs`` and ``geoml recipes``: what is there by name, and a catalog of one's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from geoml.cli import options
from geoml.cli.common import Json, command, example, out_console
from geoml.io.cog.scene_fields import CatalogRecipe
from geoml.settings import catalog_files, named_catalogs, shipped
from geoml.texts import counted

catalogs = typer.Typer(
    help="STAC catalogs by name, and one of your own files.",
    epilog=example("geoml catalogs list", "geoml catalogs new scene.tif --bands red,nir --out scenes"),
    no_args_is_help=True,
)
recipes = typer.Typer(help="Training recipes by name.", epilog=example("geoml recipes list"), no_args_is_help=True)

SHOWN = 32
"""Names of bands that a cell shows; of more, only their number."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(catalogs, name="catalogs")
    app.add_typer(recipes, name="recipes")
    command(catalogs, "list")(catalogs_list)
    command(catalogs, "new")(new)
    command(recipes, "list")(recipes_list)


def catalogs_list(as_json: Json = False) -> None:
    """List the catalogs that --catalog takes by name: those of geoml, and yours in GEOML_CATALOGS.

    Example:
    geoml catalogs list
    """
    from geoml.io.stac.catalog import open_catalog

    found = []
    for name, path in named_catalogs().items():
        catalog = open_catalog(name)
        names = ", ".join(sorted(catalog.profiles))
        about = {"name": name, "from": _whose(path, f"{name}.yaml"), "kind": str(catalog.kind), "collections": names}
        found.append({**about, "url": catalog.url})
    if as_json:
        print(json.dumps(found))
        return
    table = Table("name", "from", "kind", "collections", Column("where", overflow="fold"))
    for row in found:
        table.add_row(*row.values())
    out_console.print(table)


def recipes_list(as_json: Json = False) -> None:
    """List the recipes that train and evaluate take by name: those of geoml, and yours in GEOML_CATALOGS.

    Example:
    geoml recipes list
    """
    from geoml.recipe import load_yaml

    found = []
    for path in catalog_files("recipes/*.yaml").values():
        said = load_yaml(path)
        task = "predict" if "query" in said and "task" not in said else str(said.get("task", "segmentation"))
        about = " ".join(str(said.get("description", "")).split())
        found.append(
            {"name": path.stem, "from": _whose(path, f"recipes/{path.name}"), "task": task, "description": about}
        )
    if as_json:
        print(json.dumps(found))
        return
    table = Table("name", "from", "task", "description")
    for row in found:
        table.add_row(*row.values())
    out_console.print(table)


def _whose(path: Path, name: str) -> str:
    """Whether a file is one of geoml's or the user's own, which may hide geoml's of that name."""
    inside = shipped().resolve()
    if path.resolve().is_relative_to(inside):
        return "geoml"
    return "yours, instead of geoml's" if (inside / name).exists() else "yours"


@options.from_recipe(CatalogRecipe, argument="scenes", where="catalogs new")
def new(recipe: CatalogRecipe, out: Annotated[Path, typer.Option("--out", help="folder of the catalog")]) -> None:
    """Write a static STAC catalog of GeoTIFFs, which stay in place. Shards of an Earth Engine export are one item.

    The rasters of an ArcGIS image service are downloaded into OUT/images.

    Example:
    geoml catalogs new 2024-06-01.tif 2024-07-01.tif --bands blue,green,red,nir -o scenes
    """
    from geoml.io.cog.image_service import with_files
    from geoml.io.cog.scene_files import scenes_of
    from geoml.io.cog.scene_items import write_scenes

    recipe = with_files(recipe, out)
    scenes = scenes_of(recipe.scenes, recipe, recipe.datetime, skipped=recipe.skipped_shards)
    catalog = write_scenes(scenes, recipe, out, f"{counted(len(scenes), 'scene')} of files")
    titles = ("item", "bands", "gsd", "CRS", "datetime", "date from")
    table = Table(*titles)
    for scene in scenes:
        names = [name for file in scene.bands for name in file if name]
        bands = " ".join(names) if len(names) <= SHOWN else counted(len(names), "band")
        codes = " ".join(dict.fromkeys(str(f.box.crs)[:40] for f in scene.files))
        when = f"{scene.when:%Y-%m-%dT%H:%M:%SZ}"
        table.add_row(scene.name, bands, f"{scene.gsd:.3g} m", codes, when, scene.dated_by)
    out_console.print(table)
    place = out / catalog.name if catalog.is_file() else out
    out_console.print(f"Use it with --catalog {place}", highlight=False)
