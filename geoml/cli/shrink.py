"""``geoml models shrink``: a package with fewer bytes of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geoml.cli.common import command, out_console
from geoml.cli.main import models


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(models, "shrink")(shrink)


def shrink(
    model: Annotated[str, typer.Argument(help="name or package directory")],
    out: Annotated[Path, typer.Option("--out", help="folder of the new package")],
    int8: Annotated[bool, typer.Option("--int8", help="large matrices in 8 bits, a quarter of the size")] = False,
) -> None:
    """The same model with half the bytes of weights; it is read as float32 and runs as before.

    Example:
    geoml models shrink presto -o presto-small
    """
    from geoml.engine.packages import cards  # torch comes with the rest
    from geoml.engine.packages.shrink import shrink as smaller

    before = (cards.find(model) / cards.read_any(model).weights).stat().st_size
    card = smaller(model, out, int8)
    after = (out / card.weights).stat().st_size
    out_console.print(f"wrote {out}: weights of {after:,} bytes, before {before:,}; sha256 {card.sha256[:12]}")
    out_console.print(f"its scores are those of the weights before; geoml evaluate --model {out} RECIPE gives its own")
