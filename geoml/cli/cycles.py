"""``geoml cycles``: forecasts again and again, by hand or by cron; the flow ``forecast`` does the same by schedule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from geoml.cli import options
from geoml.cli.common import Json, command, out_console, print_warnings
from geoml.cli.verify import best_simple, number, share
from geoml.forecasting.recipe import CycleRecipe
from geoml.texts import counted

if TYPE_CHECKING:
    from geoml.forecasting.cycles.look import CycleLook


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "cycles")(cycles)


@options.from_recipe(CycleRecipe)
def cycles(
    recipe: CycleRecipe,
    out: Annotated[Path, typer.Option("--out", help="folder of all cycles; a stopped cycle is resumed")],
    as_json: Json = False,
) -> None:
    """Issue every forecast that is due, reissue those that late data changed, and verify earlier ones.

    Example:
    geoml cycles -m advection --cube radar --reads knmi-radar \\
      --leads PT15M --leads PT1H -o nowcasts
    """
    from geoml import pipeline
    from geoml.cli.progress import counter
    from geoml.forecasting import steps

    with pipeline.locked(out):
        found = steps.look(recipe, out)
        with counter(f"of {counted(len(found.todo), 'cycle')}", out) as advance:
            for cycle in found.todo:
                steps.issue(recipe, found, cycle, pipeline.predict)
                advance(1)
        scores = steps.settle(recipe, found)
    if as_json:
        issued = {cycle.name: about for cycle, about in found.issued.items()}
        age = int(found.age.total_seconds())
        print(json.dumps({"cycles": issued, "age_seconds": age, "scores": scores}, default=str))
    elif found.issued or found.verified:
        print_cycles(found, out)
        print_running(scores, out)
    print_warnings({"warnings": found.warnings()})
    found.verdict()


def print_cycles(found: CycleLook, out: Path) -> None:
    """What was issued, and how old the newest step is."""
    from geoml.forecasting.cycles.look import summary

    for cycle, about in found.issued.items():
        how = "issued" if cycle.version == 1 else f"issued again, version {cycle.version}, for its data have changed"
        gaps = f"; without {', '.join(about['missing'])}" if about["missing"] else ""
        out_console.print(f"{out / 'cycles' / cycle.name}: {how}{gaps}", highlight=False)
    out_console.print(summary(found), highlight=False)


def print_running(scores: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Scores by lead over all cycles."""
    if not scores:
        return
    unit = f", {scores[0]['unit']}" if scores[0]["unit"] else ""
    shown = Table(title=f"{out / 'verification.parquet'}: what came true{unit}")
    for name in ("lead", "cycles", "n", "MAE", "best simple", "skill", "CRPS", "50 %", "80 %", "90 %"):
        shown.add_column(name)
    for row in scores:
        cover = (row["cover50"], row["cover80"], row["cover90"])
        shown.add_row(
            row["lead"], str(row["cycles"]), str(row["n"]), number(row["mae"]), best_simple(row), share(row["skill"]),
            number(row["crps"]), *map(share, cover),
        )  # fmt: skip
    out_console.print(shown)
