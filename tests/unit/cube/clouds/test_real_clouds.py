"""Ground and buildings of real clouds: no worse than what docs/elevation.md says."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from rasterio.features import rasterize
from scipy import ndimage

from geoml.cube.clouds.buildings import footprints
from geoml.cube.clouds.ground import FILTERS
from geoml.grid.plane import Plane
from geoml.settings import settings
from tests.benchmarks.ground import clouds, scores
from tests.benchmarks.surfaces import cloud_of

pytestmark = pytest.mark.data

LIMITS = {"town": (3.0, 94.0), "lidarhd": (3.0, 94.0), "steep": (3.0, 94.0), "forest": (4.5, 90.0)}
"""Most errors in per cent, and least kappa, by the mean over the clouds of a group."""


def data() -> Path:
    folder = settings().data
    assert folder is not None
    return folder


@pytest.mark.parametrize("name", FILTERS.names())
def test_ground_is_told_as_well_as_the_documents_say(name: str) -> None:
    told = FILTERS.build(name, {})
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for group, _, points, classes in clouds(data()):
        found.setdefault(group, []).append(scores(told.ground(*points.T), classes))
    for group, (most, least) in LIMITS.items():
        _, _, total, kappa = np.mean(found[group], axis=0)
        assert total <= most, group
        assert kappa >= least, group


@pytest.mark.parametrize("res", [0.5, 1.0])
def test_footprints_cover_the_outlines_of_a_register(res: float) -> None:
    """Of those buildings that an outline touches: the register here is of a part of the cloud."""
    plane = Plane("EPSG:28992", res)
    _, _, points, classes = next(clouds(data()))
    cloud = cloud_of(points, classes)
    window = plane.window(cloud.x.min(), cloud.y.min(), cloud.x.max(), cloud.y.max())
    outlines = gpd.read_file(data() / "elevation" / "ahn3_delft" / "bgt_pand.sqlite").geometry.force_2d()
    truth = rasterize(list(outlines), window.shape, transform=plane.transform(window), dtype="uint8") > 0
    found = footprints(cloud, plane, window)
    part = ndimage.label(found)[0]
    touched = found & np.isin(part, np.unique(part[truth & found]))
    assert (touched & truth).sum() / (touched | truth).sum() > 0.88
