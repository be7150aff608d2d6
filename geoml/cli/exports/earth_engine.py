"""``geoml export earth-engine``: manifests that bring a run into Earth Engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from geoml.cli.common import command, out_console


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "earth-engine")(earth_engine)


def earth_engine(
    run: Annotated[str, typer.Argument(metavar="RUN", help="folder or URL of a finished run")],
    bucket: Annotated[str, typer.Option("--bucket", help="where its COGs will lie: gs://NAME or gs://NAME/PREFIX")],
    asset: Annotated[str, typer.Option("--asset", help="of Earth Engine: projects/PROJECT/assets/NAME")],
    out: Annotated[Path, typer.Option("--out", help="folder of the manifests")],
    cogs: Annotated[
        bool,
        typer.Option("--cogs", help="register the COGs where they lie, an image for each block; by default copied"),
    ] = False,
) -> None:
    """Manifests that bring the maps of a run into Earth Engine, and the lines to type then; uploads nothing itself.

    Example:
    geoml export earth-engine itaipu --bucket gs://maps/itaipu --asset projects/mine/assets/itaipu -o upload
    """
    from geoml.engine.exporters.earth_engine import earth_engine as export
    from geoml.engine.results.run import open as open_run

    made = export(open_run(run), bucket, asset, out, cogs=cogs)
    made.write(out)
    table = Table(Column("manifest", overflow="fold"), Column("asset", overflow="fold"), "bands", "files")
    for name, manifest in made.manifests.items():
        files = sum(len(tileset["sources"]) for tileset in manifest["tilesets"])
        table.add_row(name, manifest["name"], " ".join(band["id"] for band in manifest["bands"]), str(files))
    out_console.print(table)
    out_console.print("then type:", highlight=False)
    for line in made.commands:
        print(line)  # to be copied: never wrapped
