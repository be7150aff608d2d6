"""``geoml models import``: networks and published weights that somebody has, as packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoml.cli import options
from geoml.cli.common import command, out_console
from geoml.cli.main import models
from geoml.engine.packages.import_options import ImportOptions
from geoml.texts import counted


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(models, "import")(import_model)


@options.from_recipe(ImportOptions, where="import")
def import_model(
    asked: ImportOptions,
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND_OR_FILE",
            help="a .pt2 or .onnx file, a folder of smp or huggingface; or a kind: torchgeo, timm, presto, …",
        ),
    ],
    source: Annotated[Path, typer.Argument(help="file or folder of that kind; none for lite0")] = Path(),
    out: Annotated[Path | None, typer.Option("--out", help="folder of the new package; by default its name")] = None,
) -> None:
    """Turn a network or published weights into a model package with the same output.

    Example:
    geoml models import net.onnx --bands red,green,blue,nir --gsd 10 \\
      --scale 10000 --classes water,field,town -o my-model
    """
    from geoml.engine import importers

    if out is None:
        out = Path(Path(kind).stem)
        if out.resolve() in (Path(kind).resolve(), source.resolve()):
            out = Path(f"{out}-geoml")
    card = importers.convert(kind, source, out, asked)
    out_console.print(f"wrote {out}")
    if (off := card.scores.get("original_difference")) is not None:
        out_console.print(
            f"its output differs from the original's by at most {off:.1g} on"
            f" {counted(card.scores['original_chips'], 'chip')}",
            highlight=False,
        )
