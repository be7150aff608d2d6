"""Scale and offset of the file, used if band, asset, item, YAML and collection give none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.cog import pam
from geoml.io.cog.source import label, using
from geoml.io.stac.bands import BandSpec


def with_file_scaling(specs: Sequence[BandSpec]) -> tuple[BandSpec, ...]:
    """The bands of one asset with the scale and offset of the file where nobody else says them; reads its header then.

    A scale from elsewhere goes before the file's, and an offset of the file belongs to the file's scale: it does not
    count beside another one. Raises DataError for a file whose scale is 0 or no number, else what
    `geoml.io.cog.source.using` raises.
    """
    if not any(s.file_scale or s.file_offset for s in specs):
        return tuple(specs)

    def scalings(dataset: rasterio.DatasetReader) -> list[tuple[float, float]]:
        return [band_scaling(dataset, s.index, label(s)) for s in specs]

    return tuple(_with(s, *pair) for s, pair in zip(specs, using(specs[0], scalings), strict=True))


def band_scaling(dataset: rasterio.DatasetReader, index: int, where: str) -> tuple[float, float]:
    """(scale, offset) of a band by its file, (1, 0) where it says none. Raises DataError naming ``where``."""
    if not 1 <= index <= dataset.count:
        return 1.0, 0.0  # reading the band says it better
    scale, offset = float(dataset.scales[index - 1]), float(dataset.offsets[index - 1])
    if (scale, offset) == (1.0, 0.0) and (noted := pam.pam_bands(dataset, where).get(index)):
        scale, offset = noted.scale, noted.offset
    if not scale or not math.isfinite(scale) or not math.isfinite(offset):
        raise DataError(f"{where}: the file says scale {scale:g}, offset {offset:g}; expected finite, scale not 0")
    return scale, offset


def physical(data: NDArray[np.number], scaling: Sequence[tuple[float, float]]) -> NDArray[np.number]:
    """(band, y, x) * scale + offset of each band as float32; ``data`` itself where all are (1, 0)."""
    if all(s == (1.0, 0.0) for s in scaling):
        return data
    out = np.empty(data.shape, np.float32)
    for band, into, (scale, offset) in zip(data, out, scaling, strict=True):
        np.multiply(band, scale, out=into, casting="unsafe")
        into += np.float32(offset)
    return out


def _with(spec: BandSpec, scale: float, offset: float) -> BandSpec:
    same = spec.file_scale or scale in (1.0, spec.scale)
    return replace(
        spec,
        scale=scale if spec.file_scale else spec.scale,
        offset=offset if spec.file_offset and same else spec.offset,
        file_scale=False,
        file_offset=False,
    )
