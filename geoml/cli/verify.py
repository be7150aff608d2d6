"""``geoml verify``: what came true of a forecast."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from geoml.cli.common import Json, command, out_console
from geoml.texts import percent


def register(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "verify")(verify)


def verify(
    run: Annotated[Path, typer.Argument(help="folder that geoml forecast wrote")],
    table: Annotated[
        str | None, typer.Option("--table", help="current values; by default those of the forecast")
    ] = None,
    cube: Annotated[str | None, typer.Option("--cube", help="current steps; by default those of the forecast")] = None,
    as_json: Json = False,
) -> None:
    """Compare a forecast with what happened, and score it by lead: RUN/verification.parquet.

    Example:
    geoml verify air
    """
    from geoml.forecasting import steps

    rows = steps.verify(run, table=table, cube=cube)
    if as_json:
        print(json.dumps(rows, default=str))
        return
    print_verification(rows, run)


def print_verification(rows: Sequence[Mapping[str, Any]], run: Path) -> None:
    """A table of the leads."""
    from geoml.forecasting.steps import VERIFICATION

    unit = f", {rows[0]['unit']}" if rows and rows[0]["unit"] not in (None, "", "1") else ""
    shown = Table(title=f"{run / VERIFICATION}: {rows[0]['model']} of {rows[0]['reference_time']:%FT%TZ}{unit}")
    names = ("lead", "n", "MAE", "best simple", "skill", "CRPS", "50 %", "80 %", "90 %")
    for name in names:
        shown.add_column(name)
    for row in rows:
        cover = (row["cover50"], row["cover80"], row["cover90"])
        shown.add_row(
            row["lead"], str(row["n"]), number(row["mae"]), best_simple(row), share(row["skill"]),
            number(row["crps"]), *map(share, cover),
        )  # fmt: skip
    out_console.print(shown)
    if missing := [row["lead"] for row in rows if not row["n"]]:
        out_console.print(f"not known yet, or nothing was forecast: {', '.join(missing)}", highlight=False)


def best_simple(row: Mapping[str, Any]) -> str:
    """The error of the best simple method, and which it is."""
    return "" if row["best"] is None else f"{row['best_mae']:.3f} {row['best']}"


def number(value: float | None) -> str:
    """Three digits; nothing for None."""
    return "" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """As percent; nothing for None."""
    return percent(value, none="")
