"""The region as pixels of a block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.grid.plane import Block, Plane
from geoml.grid.region import project, squares_of

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox


def inside(part: BaseGeometry, geobox: GeoBox, all_touched: bool = False) -> NDArray[np.bool_]:
    """(y, x) True where the centre of a pixel lies in ``part`` (longitude/latitude).

    The centre decides, so two parts that share a border (UTM zones, neighbouring runs) never both take a pixel; with
    ``all_touched`` a pixel is inside if any of it is.
    """
    return _mask(project(part, str(geobox.crs)), tuple(geobox.shape), geobox.affine, all_touched)


def count_inside(part: BaseGeometry, plane: Plane, blocks: Iterable[Block]) -> int:
    """Pixels of ``blocks`` whose centre lies in ``part``: with all blocks that it touches, its size, however it is cut.

    Only blocks on the outline are looked at pixel by pixel.
    """
    outline = project(part, plane.crs)
    shapely.prepare(outline)
    blocks = list(blocks)
    whole = shapely.contains_properly(outline, squares_of(plane, [b.window for b in blocks]))
    return sum(
        math.prod(block.window.shape)
        if inner
        else int(_mask(outline, block.window.shape, plane.transform(block.window)).sum())
        for block, inner in zip(blocks, whole, strict=True)
    )


_ONE = Lock()
"""rasterio silences a warning in there in a way that only one thread at a time may use."""


def _mask(
    outline: BaseGeometry, shape: tuple[int, ...], transform: Affine, all_touched: bool = False
) -> NDArray[np.bool_]:
    from rasterio.features import geometry_mask

    with _ONE:
        mask: NDArray[np.bool_] = geometry_mask([outline], shape, transform, all_touched, invert=True)
    return mask
