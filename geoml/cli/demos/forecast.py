"""Rain of the next hour from bundled radar data, block by block, and its verification.

The forecast moves the last step on as the rain moved before; the observed hour after it is bundled too.
"""

from __future__ import annotations

from pathlib import Path

from geoml.cli.common import out_console
from geoml.cli.forecast import forecast_grid
from geoml.cli.verify import print_verification
from geoml.forecasting import steps
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.settings import shipped

REFERENCE = "2010-08-26T04:30:00Z"
LEADS = ("PT15M", "PT30M", "PT45M", "PT1H")


def run(out: Path) -> None:
    """The forecast in OUT, and OUT/verification.parquet."""
    forecast_grid(make_recipe(), out)
    print_verification(steps.verify(out), out)
    out_console.print(f"Look at {(out / 'report.html').resolve()}")


def make_recipe() -> ForecastRunRecipe:
    """Advection, which needs no package."""
    radar = shipped() / "demo" / "radar"
    return ForecastRunRecipe.model_validate({
        "model": "advection",
        "cube": str(radar),
        "reads": str(radar / "radar.yaml"),
        "reference_time": REFERENCE,
        "leads": LEADS,
    })  # fmt: skip
