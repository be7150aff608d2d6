"""``geoml similar``: more like a place on a map of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geoml.cli.common import command, out_console
from geoml.errors import InputError

SHOWN = 10
"""Rows that are printed."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "similar")(similar)


def similar(
    *,
    index: Annotated[str, typer.Option("--index", help="folder or bucket that geoml embed wrote")],
    out: Annotated[Path, typer.Option("--out", help="GeoParquet of the best chips; a page goes beside it")],
    point: Annotated[
        tuple[float, float] | None, typer.Option("--point", metavar="LON LAT", help="the pixel there; degrees")
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="the mean of the pixels inside: GeoJSON, GeoPackage or GeoParquet")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="chips that are wanted")] = 100,
    pixels: Annotated[bool, typer.Option("--pixels", help="order the best chips by their best pixel")] = False,
) -> None:
    """More like a place: the chips of a map of embeddings that are most like it, as rows with scores and a page."""
    if (point is None) == (region is None):
        raise InputError("point, region: give exactly one of them")
    if out.suffix != ".parquet":
        raise InputError(f"out: {out}; expected a file that ends in .parquet")
    from geoml.engine.run.similar import EmbeddingIndex
    from geoml.io.report.similar_page import similar_page
    from geoml.io.stores.store import write_text
    from geoml.io.tables.geoparquet import write_in_order
    from geoml.io.tables.regions import load_region

    there = EmbeddingIndex(index)
    place = there.at(*point) if point else there.inside(load_region(str(region)), Path(str(region)).name)
    found = there.search(place, count, pixels=pixels)
    write_in_order(found.rows, out)
    card, page = there.plan.card, out.with_suffix(".html")
    about = f"Embeddings by {card.name} of {len(there.plan.recipe.query.datetime)} steps, {there.plan.collection}."
    text = similar_page(
        title=f"More like {place.about}", about=about, outline=place.outline, chips=there.chips.rows,
        scores=found.scores, rows=found.rows, planes=there.planes, side=there.side,
    )  # fmt: skip
    write_text(page, text)
    table = Table("rank", "score", *(["best pixel"] if pixels else []), "longitude", "latitude", "chip",
                  title=f"More like {place.about}")  # fmt: skip
    for row in found.rows.slice(0, SHOWN).to_pylist():
        at = "pixel_" if pixels else ""
        best = [f"{row['pixel_score']:.3f}"] if pixels else []
        table.add_row(
            str(row["rank"]),
            f"{row['score']:.3f}",
            *best,
            f"{row[f'{at}lon']:.5f}",
            f"{row[f'{at}lat']:.5f}",
            row["id"],
        )
    out_console.print(table)
    out_console.print(f"{len(found.rows)} of {len(found.scores):,} chips in {out}; {page} shows them", highlight=False)
