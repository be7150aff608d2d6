"""Rasters of heights count in metres, and say above what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoml.errors import DataError, InputError
from geoml.io.crs import with_heights
from geoml.io.dem import heights_crs, heights_of, opened, same_heights, vertical_part

NAVD88_FEET = "EPSG:32613+6360"


def dem(path: Path, value: float, crs: str = "EPSG:32613", **said: Any) -> Path:
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "float32", "nodata": -9999}
    with rasterio.open(path, "w", crs=crs, transform=Affine(1, 0, 500_000, 0, -1, 3_900_000), **profile) as file:
        values = np.full((8, 8), value, np.float32)
        values[0, 0] = -9999
        file.write(values, 1)
        for name, given in said.items():
            setattr(file, name, (given,))
    return path


@pytest.mark.parametrize(
    ("value", "crs", "said"),
    [
        (100, "EPSG:32613", {}),
        (100, "EPSG:32613+5703", {"units": "Meters"}),
        (1000, "EPSG:32613", {"scales": 0.1}),
        (1200, "EPSG:32613", {"scales": 0.1, "offsets": -20.0}),
        (100 / 0.3048, "EPSG:32613", {"units": "ft"}),
        (100 / 0.3048, "EPSG:32613+5703", {"units": "foot"}),
        (100 * 3937 / 1200, "EPSG:32613", {"units": "US survey foot"}),
        (100 * 3937 / 1200, NAVD88_FEET, {}),
        (1000 * 3937 / 1200, "EPSG:32613", {"scales": 0.1, "units": "US survey foot"}),
    ],
)
def test_heights_are_in_metres(tmp_path: Path, value: float, crs: str, said: dict[str, Any]) -> None:
    with opened(dem(tmp_path / "a.tif", value, crs, **said), "dem") as file:
        found = heights_of(file)
    assert np.isnan(found[0, 0])
    assert found[1:] == pytest.approx(100.0, rel=1e-6)


def test_a_band_without_a_unit_has_that_of_the_caller(tmp_path: Path) -> None:
    with opened(dem(tmp_path / "a.tif", 100), "dem") as file:
        assert heights_of(file, unstated=0.5)[1, 1] == 50
    with opened(dem(tmp_path / "b.tif", 100, units="m"), "dem") as file:
        assert heights_of(file, unstated=0.5)[1, 1] == 100


def test_what_is_no_raster_of_heights_is_refused(tmp_path: Path) -> None:
    with opened(dem(tmp_path / "a.tif", 100, units="K"), "dem") as file, pytest.raises(InputError, match="are in 'K'"):
        heights_of(file)
    with pytest.raises(InputError, match=r"dem: .*none\.tif does not exist"), opened(tmp_path / "none.tif", "dem"):
        pass
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(DataError, match=r"dem: .*text\.tif cannot be read"), opened(tmp_path / "text.tif", "dem"):
        pass
    with rasterio.open(tmp_path / "flat.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 8, 8), np.uint8))
    with pytest.raises(InputError, match="no CRS"), opened(tmp_path / "flat.tif", "dem"):
        pass


@pytest.mark.parametrize(
    ("crs", "vertical", "same"),
    [
        ("EPSG:32613+5703", "EPSG:5703", True),
        (NAVD88_FEET, "EPSG:5703", True),
        ("EPSG:32613+3855", "EPSG:5703", False),
        ("EPSG:32613+5703", "EPSG:4979", False),
        (with_heights("EPSG:32613", "EPSG:4979"), "EPSG:4979", True),
        ("EPSG:4979", "EPSG:4979", True),
        (with_heights("EPSG:32613", "EPSG:4979"), "EPSG:5703", False),
        (with_heights("EPSG:28992", "EPSG:4289"), "EPSG:4979", False),
    ],
)
def test_heights_of_a_file_are_above_the_datum_of_a_run(tmp_path: Path, crs: str, vertical: str, same: bool) -> None:
    with opened(dem(tmp_path / "a.tif", 100, crs), "dem") as file:
        theirs = heights_crs(file)
    assert theirs is not None
    assert same_heights(theirs, vertical_part("EPSG:32613", vertical)) == same


def test_a_file_without_a_datum_says_none(tmp_path: Path) -> None:
    with opened(dem(tmp_path / "a.tif", 100), "dem") as file:
        assert heights_crs(file) is None
