"""The region as pixels of a block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry

from geoml.grid.region import project


def inside(part: BaseGeometry, geobox: GeoBox) -> NDArray[np.bool_]:
    """(y, x) True where the centre of a pixel lies in ``part`` (longitude/latitude).

    The centre decides, so two parts that share a border (UTM zones, neighbouring runs) never both take a pixel.
    """
    outline = project(part, str(geobox.crs))
    mask: NDArray[np.bool_] = geometry_mask([outline], tuple(geobox.shape), geobox.affine, invert=True)
    return mask
