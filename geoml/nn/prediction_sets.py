"""Prediction sets of classes: all classes that are likely enough, by what held-out ground said.

Least ambiguous sets (Sadinle, Lei, Wasserman 2019, https://doi.org/10.1080/01621459.2017.1395341): a class is in the
set where its probability is at least a threshold. The promise holds on average over ground that is exchangeable with
that which calibrated; pixels of one polygon are not, so each place has one voice, however many pixels it has.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LEAST = 20
"""Places that a threshold is calibrated on at least: with n of them no level above n / (n + 1) exists."""


def least(level: float) -> int:
    """Places that a level needs: those without which it cannot exist, and never fewer than `LEAST`."""
    return max(LEAST, math.ceil(level / (1 - level) - 1e-9))


def threshold(true: NDArray[np.float64], place: NDArray[np.int64], level: float) -> float | None:
    """The probability from which on a class is in the set; None for too few places.

    ``true`` (n,) is the probability of the true class on ground that the model has not seen, ``place`` (n,) what has
    one voice. Every place has the share 1 / (places + 1), and one is still to come (Vovk et al. 2005, split conformal).
    """
    _, which, pixels = np.unique(place, return_inverse=True, return_counts=True)
    if len(pixels) < least(level):
        return None
    share = 1 / pixels[which] / (len(pixels) + 1)
    order = np.argsort(-true, kind="stable")
    held = np.cumsum(share[order])
    (enough,) = np.nonzero(held >= level - 1e-12)
    return float(true[order[enough[0]]]) if len(enough) else None


def sets(probability: NDArray[np.floating], limit: float) -> NDArray[np.bool_]:
    """(n, class) True for the classes of each set; the likeliest class is always in it."""
    inside: NDArray[np.bool_] = probability >= limit
    inside[np.arange(len(probability)), probability.argmax(1)] = True
    return inside
