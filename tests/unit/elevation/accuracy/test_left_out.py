"""What is left out at random flatters; whole squares say what a gap costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoml.cube.clouds.surfaces import SurfaceOptions
from geoml.elevation.accuracy.left_out import left_out
from geoml.elevation.accuracy.sampled import sampled
from geoml.errors import DataError
from geoml.grid.plane import Block, Plane
from geoml.io.points.cloud import Cloud, joined


def rolling(seed: int, shift: float = 0.0) -> Cloud:
    rng = np.random.default_rng(seed)
    x, y = rng.random((2, 12_000)) * 80
    z = 2 * np.sin(x / 6) + 2 * np.cos(y / 5) + rng.normal(0, 0.02, len(x))
    byte = np.ones(len(x), np.uint8)
    made = Cloud(x + 5e5 + shift, y + 54e5, z, 2 * byte, byte, byte, byte.astype(np.uint16), np.zeros(len(x), bool))
    return joined([made])


def test_squares_cost_more_than_points() -> None:
    points = rolling(0)
    found = left_out(points, np.ones(len(points), bool), Plane("EPSG:32632", 0.5), SurfaceOptions())
    assert found["random"]["rmse"] < 0.05
    assert found["squares"]["rmse"] > 3 * found["random"]["rmse"]
    assert found["random"]["complete"] > 0.95
    assert 0.05 * len(points) < found["random"]["n"] < 0.15 * len(points)


def test_the_order_of_points_does_not_count_and_too_few_say_nothing() -> None:
    points = rolling(1)
    plane, ground = Plane("EPSG:32632", 1.0), np.ones(len(points), bool)
    assert left_out(points, ground, plane, SurfaceOptions()) == left_out(points, ground, plane, SurfaceOptions())
    assert left_out(points, ~ground, plane, SurfaceOptions())["squares"] == {"n": 0, "complete": 0.0}


def write_blocks(out: Path, plane: Plane, size: int, blocks: list[Block]) -> None:
    """A plane of 0.25 to the east and -0.5 to the south, with a hole in the first cell of each block."""
    for block in blocks:
        w = block.window
        rows, cols = np.mgrid[w.y0 : w.y1, w.x0 : w.x1].astype(float)
        dtm: NDArray[np.float64] = 0.25 * (cols + 0.5) * plane.res + 0.5 * (rows + 0.5) * plane.res
        dtm[0, 0] = np.nan
        for name, values in (("dtm", dtm), ("distance", np.full(dtm.shape, 3.0))):
            path = out / "cogs" / block.id / f"{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {"driver": "GTiff", "dtype": "float32", "count": 1, "nodata": np.nan, "crs": plane.crs}
            with rasterio.open(path, "w", **kind, height=size, width=size, transform=plane.transform(w)) as file:
                file.write(values.astype(np.float32), 1)


def test_layers_are_met_between_cells_and_across_blocks(tmp_path: Path) -> None:
    plane, size = Plane("EPSG:32632", 2.0), 16
    blocks = [Block(plane, size, iy, ix) for iy in (-2, -1) for ix in (0, 1)]
    write_blocks(tmp_path, plane, size, blocks)
    done = [b.id for b in blocks]
    rng = np.random.default_rng(0)
    x, y = rng.uniform(5, 59, 300), rng.uniform(5, 59, 300)
    found = sampled(tmp_path, plane, size, done, x, y)
    known = np.isfinite(found["dtm"])
    assert known.mean() > 0.97
    assert np.allclose(found["dtm"][known], (0.25 * x - 0.5 * y)[known], atol=1e-4)
    assert np.allclose(found["slope"][known], np.degrees(np.arctan(np.hypot(0.25, 0.5))), atol=1e-3)
    assert (found["distance"] == 3).all()
    assert np.isnan(sampled(tmp_path, plane, size, done[:1], x, y)["dtm"]).mean() > 0.5
    (tmp_path / "cogs" / done[0] / "dtm.tif").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"dtm\.tif"):
        sampled(tmp_path, plane, size, done, x, y)
