"""What clouds tell of the ground: classes of the files that hold whatever a filter or a package says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geoml import pipeline
from geoml.elevation import steps
from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.points import PACKAGE
from geoml.engine.packages import cards
from geoml.engine.run.plan import STATE
from geoml.errors import InputError
from geoml.grid.plane import Plane
from geoml.inputs.points import GROUND, Input, squares_of
from geoml.io.cards.map_card import MapCard
from geoml.io.points.source import open_source
from tests import made_town
from tests.made_clouds import las_bytes


def cloud_file(path: Path) -> Path:
    """The west of the town: its ground is called water up to y 40, a bridge up to 60."""
    made: dict[str, Any] = made_town.columns(density=1.0)
    made = {k: v[np.asarray(made["x"]) < made_town.X0 + 60] for k, v in made.items()}
    north, ground = np.asarray(made["y"]) - made_town.Y0, made["classification"] == GROUND
    made["classification"][ground & (north < 60)] = 17
    made["classification"][ground & (north < 40)] = 9
    path.write_bytes(las_bytes(made, crs=made_town.CRS))
    return path


@pytest.mark.parametrize("ground", ["smrf", "delivered", "point-classes"])
def test_water_and_bridges_of_the_files_are_never_ground(tmp_path: Path, ground: str) -> None:
    path = cloud_file(tmp_path / "town.laz")
    asked = ElevationRecipe.model_validate({"points": [str(path)], "ground": ground})
    recipe = steps.elevation_run(asked, tmp_path / "run")
    reads = Input(cards.read(tmp_path / "run" / STATE / PACKAGE, MapCard), recipe)
    source, plane = open_source(str(path)), Plane("EPSG:32632", 1.0)
    cloud, found = reads.classified([source], plane, plane.window(*source.bounds))
    told = np.isin(cloud.classification, (9, 17))
    north = cloud.y - made_town.Y0
    assert set(cloud.classification[told & (north < 40)]) == {9}
    assert set(cloud.classification[told & (north > 40)]) == {17}
    assert told.sum() > 2000
    assert not found[told].any()
    assert found[north > 60].sum() > 1000


def test_items_of_other_catalogs_are_not_believed(tmp_path: Path) -> None:
    path = cloud_file(tmp_path / "town.laz")
    asked = ElevationRecipe.model_validate({"points": [str(path)], "res": 4})
    recipe = steps.elevation_run(asked, tmp_path / "run")
    assert pipeline.plan(recipe, tmp_path / "run").blocks
    other = tmp_path / "other"
    shutil.copytree(Path(recipe.query.catalog).parent, other)
    for catalog in (str(other / "catalog.json"), "https://example.invalid/points/catalog.json"):
        theirs = recipe.model_copy(update={"query": recipe.query.model_copy(update={"catalog": catalog})})
        with pytest.raises(InputError, match=r"catalog: .*geoml elevation --catalog"):
            pipeline.predict(theirs, tmp_path / "theirs")
        with pytest.raises(InputError, match="catalog: "):
            squares_of(theirs)
