"""Terrain, surface, heights and buildings of a quarter of Delft from bundled laser points, compared with others."""

from __future__ import annotations

from pathlib import Path

from geoml.cli.common import out_console
from geoml.cli.elevation import run_elevation
from geoml.elevation.recipe import ElevationRecipe
from geoml.settings import shipped


def run(out: Path) -> None:
    """The run in OUT."""
    run_elevation(make_recipe(), out)
    out_console.print(f"Look at {(out / 'report.html').resolve()}")


def make_recipe() -> ElevationRecipe:
    """Ground by the filter, half a metre, and the points of the ground that were kept back as check points."""
    folder = shipped() / "demo" / "elevation"
    return ElevationRecipe.model_validate({
        "points": [str(folder / "delft.laz")],
        "ground": "smrf",
        "res": 0.5,
        "block_size": 128,
        "check_points": str(folder / "check-points.csv"),
        "check_crs": "EPSG:7415",
    })  # fmt: skip
