"""Small pictures of layers, in the colours of the report."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geoml.io.report.images import CLEAR, ramp, rgb

Bytes = NDArray[np.uint8]


def coloured(layer: xr.DataArray) -> Bytes:
    """(y, x, 4) RGBA of a layer (y, x), or of the first band of (band, y, x): classes in their colours, others from
    the 2nd to the 98th percentile along the report's scale; clear where nothing is known."""
    values = np.asarray(layer.values if layer.ndim == 2 else layer[0].values)
    attrs = layer.attrs
    picture = np.zeros((*values.shape, 4), np.uint8)
    picture[:] = CLEAR
    if "flag_values" in attrs and "flag_colors" in attrs:
        for value, color in zip(attrs["flag_values"], attrs["flag_colors"].split(), strict=True):
            picture[values == value] = (*rgb(color), 255)
        return picture
    known = np.isfinite(values) & (values != attrs.get("nodata", np.nan))
    if known.any():
        low, high = np.percentile(values[known], (2, 98))
        picture[known] = ramp((values[known].astype(np.float64) - low) / max(high - low, 1e-9))
    return picture


def cropped(picture: Bytes) -> Bytes:
    """Without the clear rows and columns around what is drawn."""
    drawn = picture[..., 3] > 0
    if not drawn.any():
        return picture
    (y, *_, y1), (x, *_, x1) = (np.flatnonzero(drawn.any(axis=k)).repeat(2) for k in (1, 0))
    return picture[y : y1 + 1, x : x1 + 1]
