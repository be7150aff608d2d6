"""``geoml similar``: more like a place on a map of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from geoml.cli import options
from geoml.cli.common import command, out_console
from geoml.errors import InputError
from geoml.recipe import ChipSearchRecipe
from geoml.redacted import bare
from geoml.texts import percent

SHOWN = 10
"""Rows that are printed."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "similar")(similar)


@options.from_recipe(ChipSearchRecipe)
def similar(
    recipe: ChipSearchRecipe,
    out: Annotated[Path, typer.Option("--out", help="GeoParquet of the best chips; a page is written beside it")],
) -> None:
    """Find the chips of a map of embeddings that are most similar to a place, as rows with scores and a page.

    Example:
    geoml similar --index venice --point 12.33 45.44 -o like-this.parquet
    """
    if out.suffix != ".parquet":
        raise InputError(f"out: {out}; expected a file that ends in .parquet")
    from geoml.engine.run.similar import EmbeddingIndex
    from geoml.io.report.similar_page import similar_page
    from geoml.io.stores.store import write_text
    from geoml.io.tables.geoparquet import write_in_order
    from geoml.io.tables.regions import load_region

    there = EmbeddingIndex(recipe.index)
    region = str(recipe.region)
    place = there.at(*recipe.point) if recipe.point else there.inside(load_region(region), Path(bare(region)).name)
    found = there.search(place, recipe.count, pixels=recipe.pixels)
    write_in_order(found.rows, out)
    card, page = there.plan.card, out.with_suffix(".html")
    about = f"Embeddings by {card.name} of {len(there.plan.recipe.query.datetime)} steps, {there.plan.collection}."
    text = similar_page(
        title=f"More like {place.about}", about=about, outline=place.outline, chips=there.chips.rows,
        scores=found.scores, rows=found.rows, planes=there.planes, side=there.side,
    )  # fmt: skip
    write_text(page, text)
    scored = ["chip mean", "best pixel"] if recipe.pixels else ["score"]
    widths = {"rank": 4, **dict.fromkeys(scored, 6), "longitude": 10, "latitude": 9, "with data": 5}
    numbers = (Column(name, width=width) for name, width in widths.items())
    table = Table(*numbers, Column("chip", overflow="fold"), title=f"More like {place.about}")
    for row in found.rows.slice(0, SHOWN).to_pylist():
        at = "pixel_" if recipe.pixels else ""
        best = [f"{row['pixel_score']:.3f}"] if recipe.pixels else []
        table.add_row(
            str(row["rank"]),
            f"{row['score']:.3f}",
            *best,
            f"{row[f'{at}lon']:.5f}",
            f"{row[f'{at}lat']:.5f}",
            percent(row["valid"], 0),
            row["id"],
        )
    out_console.print(table)
    out_console.print(f"{len(found.rows)} of {len(found.scores):,} chips in {out}; {page} shows them", highlight=False)
