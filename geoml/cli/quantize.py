"""``geoml models quantize``: a package with a program in int8, and what it loses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from geoml.cli.common import Json, command, out_console
from geoml.cli.main import models
from geoml.io.report.score_table import number
from geoml.texts import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(models, "quantize")(quantize)


def quantize(
    model: Annotated[str, typer.Argument(help="name or package directory")],
    data: Annotated[Path, typer.Option("--data", help="recipe that it was trained by: a YAML file, or a name")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package; its name is the model's")],
    as_json: Json = False,
) -> None:
    """Add int8 to a model, with its loss on validation data in the card; refused if the loss is too large.

    Example:
    geoml models quantize demo-itaipu --data demo-itaipu -o itaipu-int8
    """
    from geoml import pipeline

    card = pipeline.quantize(model, data, out)
    assert card.int8 is not None
    if as_json:
        print(json.dumps(card.int8.model_dump(mode="json")))
        return
    record = card.int8
    loss = record.loss
    title = f"IoU on the {record.split} split, {counted(record.pixels, 'pixel')}"
    table = Table("class", "torch fp32", *(f"{name} int8" for name in loss), title=title)
    first = next(iter(loss.values()))
    for name in first.before:
        table.add_row(name, number(first.before[name]), *(number(one.after.get(name)) for one in loss.values()))
    table.add_row("mean", number(first.miou[0]), *(number(one.miou[1]) for one in loss.values()))
    out_console.print(table)
    lost = ", ".join(f"{100 * one.lost:+.2f} by {name}" for name, one in loss.items())
    out_console.print(f"points of mean IoU lost: {lost}; ranges from {counted(record.chips, 'chip')}", highlight=False)
    out_console.print(f"wrote {out}; GEOML_PRECISION=int8 and GEOML_BACKEND run it", highlight=False)
