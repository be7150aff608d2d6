"""``geoml models radius``: a package whose chips see less around them, and what that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geoml.cli.common import Json, command, out_console
from geoml.cli.main import models


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(models, "radius")(radius)


def radius(
    model: Annotated[str, typer.Argument(help="name or package directory")],
    data: Annotated[Path, typer.Option("--data", help="recipe that it was trained by: a YAML file, or a name")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package; its name is the model's")],
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="share of pixels that may have another class, at most 0.05")
    ] = 0.001,
    as_json: Json = False,
) -> None:
    """Write the same model with the smallest radius that changes few classes on validation data; its maps say so.

    Example:
    geoml models radius demo-itaipu --data demo-itaipu \\
      --tolerance 0.001 -o near
    """
    from geoml import pipeline

    card, test = pipeline.radius(model, data, tolerance, out)
    record = card.short_radius
    assert record is not None
    if as_json:
        told = {"radius": card.radius, **record.model_dump(mode="json"), "test": test._asdict() if test else None}
        print(json.dumps(told))
        return
    title = f"{record.split} split, {record.pixels} pixels, {record.precision}; cores of {record.core} pixels"
    table = Table("radius", "pixels of another class", "chips computed for one of output", title=title)
    for size, changed in [(record.radius_before, 0.0), *((r.radius, r.changed) for r in record.tried)]:
        halo = -(-size // card.stride) * card.stride
        table.add_row(str(size), f"{100 * changed:.3g} %", f"{(1 + 2 * halo / record.core) ** 2:.2f}")
    out_console.print(table)
    if test is not None:
        out_console.print(f"test split: {100 * test.changed:.3g} % of {test.pixels} pixels", highlight=False)
    out_console.print(f"wrote {out}: {record.price(card.radius or 0)}", highlight=False)
