"""The mask of an item as one COG: the classes of its blocks side by side, and what lies near clouds and shadows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import odc.geo.xr
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy import ndimage

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


def write_mask(run: Path, path: Path, card: MapCard, buffer: float) -> Mask:
    """The classes of a finished run over one item as the file ``path``, cut to what is known.

    Clear pixels within ``buffer`` metres (steps along rows and columns) of others become `NEAR`. None of
    this depends on the size of the blocks. Raises NothingFound where no pixel is known.
    """
    layer = open_run(run).classes
    if layer.attrs.get("nodata") != card.nodata:
        raise DataError(f"{run}: the nodata value of its classes is not {card.nodata}, that of {card.name}")
    rows, columns = _known(layer, card.nodata)
    part = layer[:, columns]
    steps = round(buffer / card.gsd)
    used = {card.nodata, *(c.value for c in card.classes)}
    near = ClassInfo(value=min(set(range(255)) - used), name=NEAR, color="#a6a6a6")
    classes = (*card.classes, near) if steps else card.classes
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
        for strip in _strips(part, rows, classes, steps):
            counts += np.bincount(strip.ravel(), minlength=256)
            writer.write(strip)
    info = writer.close()
    return Mask(info, geobox, classes, card.nodata, {c.name: int(counts[c.value]) for c in classes})


def _known(layer: xr.DataArray, nodata: int) -> tuple[slice, slice]:
    """Rows and columns around all pixels that are known. Raises NothingFound."""
    rows: list[int] = []
    columns = np.zeros(layer.shape[1], bool)
    for top in range(0, layer.shape[0], STRIP):
        known = layer[top : top + STRIP].to_numpy() != nodata
        rows += [top + int(r) for r in np.flatnonzero(known.any(1))[[0, -1]]] if known.any() else []
        columns |= known.any(0)
    if not rows:
        raise NothingFound("no pixel of the region is known")
    first, last = np.flatnonzero(columns)[[0, -1]]
    return slice(rows[0], rows[-1] + 1), slice(int(first), int(last) + 1)


def _strips(layer: xr.DataArray, rows: slice, classes: Sequence[ClassInfo], steps: int) -> Iterator[NDArray[np.uint8]]:
    """The ``rows`` of a layer from the top, with what is near, which is looked for beyond the edges of a strip."""
    values = {c.name: c.value for c in classes}
    clear, bad = values[CLEAR], [v for name, v in values.items() if name not in (CLEAR, NEAR)]
    for top in range(rows.start, rows.stop, STRIP):
        bottom = min(top + STRIP, rows.stop)
        first = max(top - steps, 0)
        strip = layer[first : bottom + steps].to_numpy().copy()
        if steps:
            near = ndimage.binary_dilation(np.isin(strip, bad), iterations=steps)
            strip[near & (strip == clear)] = values[NEAR]
        yield strip[top - first : bottom - first]
