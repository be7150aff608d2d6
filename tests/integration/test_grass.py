"""GRASS opens the surfaces of a run as they are: heights, CRS and voids."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoml import pipeline
from geoml.elevation import steps
from geoml.elevation.recipe import ElevationRecipe
from tests import made_town

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_grass_reads_the_terrain(tmp_path: Path) -> None:
    grass = shutil.which("grass")
    if grass is None:
        pytest.skip("integration: GRASS is not installed (Debian: grass-core)")
    points = [str(p) for p in made_town.write_town(tmp_path / "town")]
    asked = ElevationRecipe.model_validate({"points": points, "res": 2, "block_size": 512})
    out = tmp_path / "run"
    pipeline.predict(steps.elevation_run(asked, out), out)
    (path,) = out.glob("cogs/*/dtm.tif")
    with rasterio.open(path) as file:
        dtm = file.read(1)
    script = f"r.in.gdal input={path} output=dtm && g.region raster=dtm && r.univar -g map=dtm && g.proj -p"
    options = subprocess.run([grass, "--help"], capture_output=True, text=True, check=True)
    new = "--tmp-project" if "--tmp-project" in options.stdout + options.stderr else "--tmp-location"  # before 8.4
    told = subprocess.run(
        [grass, new, str(path), "--exec", "sh", "-c", script], capture_output=True, text=True, check=True
    ).stdout
    said = dict(line.split("=", 1) for line in told.splitlines() if line.count("=") == 1)
    known = np.isfinite(dtm)
    assert int(said["n"]) == known.sum()
    assert int(said["null_cells"]) == (~known).sum()
    assert float(said["mean"]) == pytest.approx(float(dtm[known].mean(dtype=np.float64)), abs=1e-4)
    assert "zone       : 32" in told
