"""Composites: one value per pixel out of many observations. Plain numpy, one observation at a time.

An observation is a pair: (band, y, x) values and (y, x) bool, True where all bands are valid and clear. All composites
count the observations of each pixel, so none of them stops early: a count that depends on where reading
stopped would depend on how the work was cut. Values are another matter: `first` asks only for those that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from geoml.errors import unknown

Composite = Literal["first", "least_cloudy", "median", "mean"]
Observation = tuple[NDArray[np.number], NDArray[np.bool_]]
Mosaic = tuple[NDArray[np.number], NDArray[np.uint16]]
FIRST = ("first", "least_cloudy")
"""Composites that take the first observation of a pixel."""


class FirstLook(NamedTuple):
    """Of one observation: (y, x) ``ok``, where it counts, and values (band, y, x) of rectangles of it, at least
    wherever it counts and none came before."""

    ok: NDArray[np.bool_]
    values: Sequence[tuple[tuple[slice, slice], NDArray[np.number]]]


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
    if name == "mean":
        return _mean(observations, shape, dtype)
    return first(map(_whole, observations), shape, dtype)


def first(
    looks: Iterable[Callable[[NDArray[np.bool_]], FirstLook | None]],
    shape: tuple[int, int, int],
    dtype: np.dtype[np.number],
) -> Mosaic:
    """The first observation of each pixel. A look is asked with (y, x) True where no values are yet; None: nothing."""
    data = np.zeros(shape, dtype)
    count = np.zeros(shape[1:], np.uint16)
    missing = np.ones(shape[1:], bool)
    for look in looks:
        if (found := look(missing)) is None:
            continue
        for place, values in found.values:
            fresh = found.ok[place] & missing[place]
            if fresh.shape == missing.shape and fresh.all():
                data = values.astype(dtype, copy=False)
            elif fresh.any():
                np.copyto(data[:, *place], values, where=fresh, casting="same_kind")
        count += found.ok
        if found.values:
            np.equal(count, 0, out=missing)
    return data, count


def _whole(observation: Observation) -> Callable[[NDArray[np.bool_]], FirstLook]:
    values, ok = observation
    return lambda missing: FirstLook(ok, [((slice(None), slice(None)), values)])


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
