"""Composites: one value per pixel out of many observations. Plain numpy, one observation at a time.

An observation is a pair: (band, y, x) values and (y, x) bool, True where all bands are valid and clear. All composites
count the observations of each pixel, so none of them stops early: a count that depends on where reading
stopped would depend on how the work was cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from geoml.errors import unknown

Composite = Literal["first", "least_cloudy", "median", "mean"]
Observation = tuple[NDArray[np.number], NDArray[np.bool_]]
Mosaic = tuple[NDArray[np.number], NDArray[np.uint16]]


def combine(
    name: str, observations: Iterable[Observation], shape: tuple[int, int, int], dtype: np.dtype[np.number]
) -> Mosaic:
    """((band, y, x) ``dtype``, zero where nothing is known; (y, x) uint16 observations used to choose from).

    ``first`` and ``least_cloudy`` take the first observation of each pixel in the order given, all bands from the same
    one. ``mean`` and ``median`` are per band; integers are rounded to the nearest, halves up. Memory is bounded
    for all but ``median``, which keeps every observation. Raises InputError for an unknown name.
    """
    if name not in get_args(Composite):
        raise unknown("composite", name, get_args(Composite))
    if name == "median":
        return _median(observations, shape, dtype)
    return _mean(observations, shape, dtype) if name == "mean" else _first(observations, shape, dtype)


def _first(observations: Iterable[Observation], shape: tuple[int, int, int], dtype: np.dtype[np.number]) -> Mosaic:
    data = np.zeros(shape, dtype)
    count = np.zeros(shape[1:], np.uint16)
    for values, ok in observations:
        fresh = ok & (count == 0)
        if fresh.all():
            data = values.astype(dtype, copy=False)
        elif fresh.any():
            np.copyto(data, values, where=fresh, casting="same_kind")
        count += ok
    return data, count


def _mean(observations: Iterable[Observation], shape: tuple[int, int, int], dtype: np.dtype[np.number]) -> Mosaic:
    total = np.zeros(shape, np.float64)
    count = np.zeros(shape[1:], np.uint16)
    for values, ok in observations:
        np.add(total, values, out=total, where=ok)
        count += ok
    total /= np.maximum(count, 1)
    return _as(total, dtype), count


def _median(observations: Iterable[Observation], shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Mosaic:
    kept = [(values, ok) for values, ok in observations if ok.any()]
    count = np.zeros(shape[1:], np.uint16)
    if not kept:
        return np.zeros(shape, dtype), count
    last = np.inf if dtype.kind == "f" else np.iinfo(dtype).max  # sorts behind every valid value
    stack = np.empty((*shape, len(kept)), dtype)
    for k, (values, ok) in enumerate(kept):
        stack[..., k] = np.where(ok, values, np.array(last, dtype))
        count += ok
    stack.sort(axis=-1)
    n = np.maximum(count, 1).astype(np.intp)[None, :, :, None]
    low = np.take_along_axis(stack, (n - 1) // 2, axis=-1)[..., 0]
    high = np.take_along_axis(stack, n // 2, axis=-1)[..., 0]
    middle = (low.astype(np.float64) + high) / 2
    middle[:, count == 0] = 0
    return _as(middle, dtype), count


def _as(values: NDArray[np.float64], dtype: np.dtype[np.number]) -> NDArray[np.number]:
    return values.astype(dtype) if dtype.kind == "f" else np.floor(values + 0.5).astype(dtype)
