"""The steps of this wing as plain functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoml.elevation.recipe import ElevationRecipe
from geoml.errors import limits
from geoml.recipe import PredictRecipe


@limits("elevation")
def elevation_run(recipe: ElevationRecipe, out: str | Path) -> PredictRecipe:
    """The recipe of the run over blocks that makes heights; its catalog and package lie in ``out`` then.

    Raises what ``prepared`` of `geoml.elevation.run.points` or of `geoml.elevation.run.pair` does.
    """
    from geoml.elevation.run.finish import forget_older  # GDAL

    if recipe.stereo is not None:
        from geoml.elevation.run.pair import prepared
    else:
        from geoml.elevation.run.points import prepared
    made = prepared(recipe, out)
    forget_older(made, out)
    return made


@limits("elevation")
def finish(recipe: ElevationRecipe, out: str | Path) -> dict[str, Any]:
    """What comes after the blocks: check points, classes written back, and what was left out; the contents of
    ``run.json``.

    One driver at a time, see `geoml.pipeline.locked`. Raises what `geoml.elevation.run.finish.finished` does.
    """
    from geoml.elevation.run.finish import finished  # GDAL

    return finished(recipe, out)
