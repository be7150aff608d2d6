"""The mask of an item as one COG: the classes of its blocks side by side, and what lies near clouds and shadows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import odc.geo.xr
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from geoml.cube.region import inside
from geoml.engine.clouds.networks import CLEAR
from geoml.engine.results.run import open as open_run
from geoml.errors import DataError, NothingFound
from geoml.io.cards.map_card import ClassInfo, MapCard
from geoml.io.cog.write import CogInfo, CogWriter

__all__ = ["Mask", "write_mask"]

STRIP = 512
"""Rows that are held at a time."""
NEAR = "near_cloud"
"""Class of clear pixels near others."""

_ = odc.geo.xr  # gives arrays their .odc


@dataclass(frozen=True)
class Mask:
    """A mask as written. ``pixels`` counts those of each class by its name."""

    file: CogInfo
    geobox: GeoBox
    classes: tuple[ClassInfo, ...]
    nodata: int
    pixels: dict[str, int]

    @property
    def bad(self) -> list[int]:
        """Values of what is not clear."""
        return [c.value for c in self.classes if c.name != CLEAR]


def write_mask(run: Path, path: Path, card: MapCard, region: BaseGeometry, buffer: float) -> Mask:
    """The classes of a finished run over one item as the file ``path``, cut to what is known.

    Clear pixels within ``buffer`` metres of others, from centre to centre, become `NEAR`. Pixels that the ``region``
    (degrees) does not touch are unknown: the run covers them, but not all that may be near them. None of this depends
    on the size of the blocks. Raises NothingFound where no pixel is known.
    """
    layer = open_run(run).classes
    if layer.attrs.get("nodata") != card.nodata:
        raise DataError(f"{run}: the nodata value of its classes is not {card.nodata}, that of {card.name}")
    rows, columns = _known(layer, region, card.nodata)
    reach = buffer / card.gsd * (1 + 1e-9)  # so that 0.3 m are three pixels of 0.1 m
    used = {card.nodata, *(c.value for c in card.classes)}
    near = ClassInfo(value=min(set(range(255)) - used), name=NEAR, color="#a6a6a6")
    classes = (*card.classes, near) if reach >= 1 else card.classes
    geobox: GeoBox = layer.odc.geobox[rows, columns]
    counts = np.zeros(256, np.int64)
    writer = CogWriter(
        path,
        geobox,
        np.uint8,
        nodata=card.nodata,
        colormap={c.value: (*bytes.fromhex(c.color[1:]), 255) for c in classes},
        overview="mode",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with writer:
        for box, strip in _strips(layer, (rows, columns), classes, reach):
            strip[~inside(region, box, all_touched=True)] = card.nodata
            counts += np.bincount(strip.ravel(), minlength=256)
            writer.write(strip)
    info = writer.close()
    return Mask(info, geobox, classes, card.nodata, {c.name: int(counts[c.value]) for c in classes})


def _known(layer: xr.DataArray, region: BaseGeometry, nodata: int) -> tuple[slice, slice]:
    """Rows and columns around all pixels of a region that are known. Raises NothingFound."""
    rows: list[int] = []
    columns = np.zeros(layer.shape[1], bool)
    for top in range(0, layer.shape[0], STRIP):
        part = layer[top : top + STRIP]
        known = part.to_numpy() != nodata
        known &= inside(region, part.odc.geobox, all_touched=True)
        rows += [top + int(r) for r in np.flatnonzero(known.any(1))[[0, -1]]] if known.any() else []
        columns |= known.any(0)
    if not rows:
        raise NothingFound("no pixel of the region is known")
    first, last = np.flatnonzero(columns)[[0, -1]]
    return slice(rows[0], rows[-1] + 1), slice(int(first), int(last) + 1)


def _strips(
    layer: xr.DataArray, part: tuple[slice, slice], classes: Sequence[ClassInfo], reach: float
) -> Iterator[tuple[GeoBox, NDArray[np.uint8]]]:
    """Rows and columns of a layer from the top, with what is within ``reach`` pixels, also beyond the edges."""
    values = {c.name: c.value for c in classes}
    clear, bad = values[CLEAR], [v for name, v in values.items() if name not in (CLEAR, NEAR)]
    rows, columns = part
    halo = math.floor(reach)
    left = max(columns.start - halo, 0)
    for top in range(rows.start, rows.stop, STRIP):
        bottom = min(top + STRIP, rows.stop)
        first = max(top - halo, 0)
        strip = layer[first : bottom + halo, left : columns.stop + halo].to_numpy().copy()
        found = np.isin(strip, bad)
        if halo and found.any():
            strip[(strip == clear) & (ndimage.distance_transform_edt(~found) <= reach)] = values[NEAR]
        yield (
            layer[top:bottom, columns].odc.geobox,
            strip[top - first : bottom - first, columns.start - left : columns.stop - left],
        )
