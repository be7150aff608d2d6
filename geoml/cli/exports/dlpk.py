"""``geoml export dlpk``: a model package as a deep learning package of ArcGIS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoml.cli.common import command, out_console


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "dlpk")(dlpk)


def dlpk(
    model: Annotated[str, typer.Argument(help="name or package directory of a segmentation of one date")],
    out: Annotated[Path, typer.Option("--out", help="the .dlpk file")],
    scale: Annotated[
        float,
        typer.Option("--scale", help="physical value = number * scale + offset; can be changed in ArcGIS"),
    ] = 1.0,
    offset: Annotated[float, typer.Option("--offset", help="see --scale")] = 0.0,
) -> None:
    """A model as a deep learning package (.dlpk) of ArcGIS, for Classify Pixels Using Deep Learning.

    Example:
    geoml export dlpk demo-itaipu --scale 0.0001 -o itaipu.dlpk
    """
    from geoml.engine.packages.dlpk import export

    emd = export(model, out, scale, offset)
    made = emd["Geoml"]
    out_console.print(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB", highlight=False)
    out_console.print(f"bands in this order: {' '.join(made['Bands'])}; {emd['CellSize']['x']:g} m", highlight=False)
    out_console.print(
        f"chips of {emd['ImageHeight']} pixels, of which {made['Padding']} on each side are margin", highlight=False
    )
