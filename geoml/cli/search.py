"""``geoml search``: the items that a catalog has."""

from __future__ import annotations

import json

import typer
from rich.table import Column, Table

from geoml.cli import options
from geoml.cli.common import Json, command, out_console
from geoml.recipe import Query
from geoml.texts import counted, listed, short


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "search")(search)


@options.from_recipe(Query, argument="catalog")
def search(query: Query, as_json: Json = False) -> None:
    """Print the items that a catalog has for a region and a time.

    Example:
    geoml search demo -b -54.73 -25.46 -54.46 -25.15 -t 2020
    """
    from geoml.engine.run import search as searching

    items = searching.search(query)
    if as_json:
        features = [i.to_dict(include_self_link=False, transform_hrefs=False) for i in items]
        print(json.dumps({"type": "FeatureCollection", "features": features}))
        return
    table = Table(
        Column("item", overflow="fold"), "datetime", "cloud %", "gsd", "assets", title=counted(len(items), "item")
    )
    for item in items:
        p = item.properties
        when = p.get("datetime") or f"{p.get('start_datetime')}/{p.get('end_datetime')}"
        cloud = p.get("eo:cloud_cover")
        percent = f"{cloud:.0f}" if isinstance(cloud, int | float) and abs(cloud) < 1e6 else short(cloud or "", 20)
        row = short(item.id), short(when), percent, short(p.get("gsd", ""), 20), listed(item.assets, "", joined=" ")
        table.add_row(*map(str, row))
    out_console.print(table)
