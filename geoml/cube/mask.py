"""Quality masks: which pixels the producer calls usable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.stac.bands import MaskSpec


def clear(values: NDArray[np.number], valid: NDArray[np.bool_], spec: MaskSpec) -> NDArray[np.bool_]:
    """(y, x) True where the quality band ``values`` (y, x; integers) is known and names nothing bad.

    Where the quality band itself is not valid nothing vouches for the pixel, so it is not clear. Raises DataError for
    a quality band that does not hold integers or lacks a named bit.
    """
    where = f"item {spec.band.item}, asset {spec.band.asset}"
    if values.dtype.kind not in "iu":
        raise DataError(f"{where}: {values.dtype} is not a quality band of integers")
    if spec.kind == "values":
        bad = np.zeros(values.shape, bool)
        for value in spec.bad_values:  # few, so this is several times faster than np.isin
            bad |= values == value
    else:
        width = 8 * values.dtype.itemsize
        if any(not 0 <= bit < width for bit in spec.bad_bits):
            raise DataError(f"{where}: bits {spec.bad_bits} in {values.dtype}")
        bits = sum(1 << bit for bit in set(spec.bad_bits))
        raw = values.view(f"u{values.dtype.itemsize}")
        bad = (raw & raw.dtype.type(bits)) != 0
    return valid & ~bad
