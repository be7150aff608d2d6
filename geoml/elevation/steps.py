"""The steps of this wing as plain functions."""

from __future__ import annotations

from pathlib import Path

from geoml.elevation.recipe import ElevationRecipe
from geoml.errors import limits
from geoml.recipe import PredictRecipe


@limits("elevation")
def elevation_run(recipe: ElevationRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of the run over blocks that makes heights; its catalog and package lie in ``out`` then.

    Raises what `geoml.elevation.run.points.prepared` does.
    """
    from geoml.elevation.run.points import prepared  # GDAL

    return prepared(recipe, out)
