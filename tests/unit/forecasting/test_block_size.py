"""How large the blocks of a forecast may be: what is asked, unless memory or the globe has no room for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from odc.geo.geobox import GeoBox

from geoml.forecasting.grids.run import block_size


def cube(crs: str, pixel: float) -> Any:
    return SimpleNamespace(geobox=GeoBox.from_bbox((0, 0, 40 * pixel, 40 * pixel), crs, resolution=pixel))


@pytest.mark.parametrize(
    ("asked", "bands", "crs", "pixel", "found"),
    [
        (2048, 3, "EPSG:3035", 1000, 2048),
        (2048, 84, "EPSG:3035", 1000, 1024),
        (300, 84, "EPSG:3035", 1000, 300),
        (65536, 1, "EPSG:3035", 1000, 8192),
        (2048, 1, "EPSG:4326", 0.25, 64),
    ],
)
def test_blocks_are_halved_until_there_is_room(asked: int, bands: int, crs: str, pixel: float, found: int) -> None:
    assert block_size(asked, cube(crs, pixel), bands) == found
