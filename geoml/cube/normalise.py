"""From stored numbers to what a model sees: one multiplication and one addition for each band, fixed by the card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard


def coefficients(
    card: MapCard, scale: Sequence[float], offset: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mul, add), each (dates * band,) float32, with ``x * mul + add == (x * scale + offset - mean) / std``.

    ``scale`` and ``offset`` turn stored numbers into physical values, one of each for every band of every date of the
    card, the first date first; mean and std are the same for all dates. Raises InputError if their number is another.
    """
    channels = len(card.bands) * card.dates
    if not len(scale) == len(offset) == channels:
        wanted = f"expected {channels}, one for each band" + (" of each date" if card.dates > 1 else "")
        raise InputError(f"scale, offset: {len(scale)} and {len(offset)} values; {wanted} of {card.name!r}")
    mean = np.array([b.mean for b in card.bands] * card.dates, np.float64)
    std = np.array([b.std for b in card.bands] * card.dates, np.float64)
    mul = np.asarray(scale, np.float64) / std
    add = (np.asarray(offset, np.float64) - mean) / std
    return mul.astype(np.float32), add.astype(np.float32)


def normalise(
    data: NDArray[np.number], valid: NDArray[np.bool_], mul: NDArray[np.float32], add: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(band, y, x) float32 for the model; 0.0, the mean of the training data, where ``valid`` (y, x) is False."""
    out: NDArray[np.float32] = np.multiply(data, mul[:, None, None], dtype=np.float32, casting="unsafe")
    out += add[:, None, None]
    if not valid.all():
        np.copyto(out, np.float32(0.0), where=~valid)
    return out
