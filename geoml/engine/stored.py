"""How quantities are stored: int16 steps, or float32 in the unit; and never where the output was not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import Layer
from geoml.errors import ModelError

LARGEST: Final = 32_766
BROKEN: Final = -32_767
"""Stored as int16 where the output was not finite; `stored` refuses it."""
NODATA: Final[Mapping[str, float]] = {"int16": -32_768.0, "float32": -99_999.0}
"""Not the lowest float32: rasterio.merge takes that for nothing, and what it merges for 0."""


def stored(
    layers: Sequence[Layer], encoded: Sequence[NDArray[np.number]], known: NDArray[np.bool_]
) -> dict[str, NDArray[np.number]]:
    """As `geoml.engine.contract.PixelOutput.stored`."""
    wrong = [(a == BROKEN if a.dtype == np.int16 else ~np.isfinite(a)).any(0) for a in encoded]
    if bad := int((np.logical_or.reduce(wrong) & known).sum()):
        raise ModelError(f"the output of the model is not finite in {bad} pixels; check weights and normalisation")
    pairs = zip(layers, encoded, strict=True)
    return {layer.key: np.where(known, a, np.asarray(layer.nodata, a.dtype)) for layer, a in pairs}
