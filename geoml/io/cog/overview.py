"""Half the resolution, and statistics, of rows as they stream past. Nodata, NaN and infinity do not count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Overview = Literal["mode", "nearest", "average"]
PIECE = 2**19
"""Values counted at once: a few MiB."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the stored values of one band, over valid pixels; all None when there is no valid pixel."""

    minimum: float | None
    maximum: float | None
    mean: float | None
    stddev: float | None
    valid_percent: float

    def tags(self) -> dict[str, str]:
        """Under the names where GDAL and QGIS look for them."""
        values = {"MINIMUM": self.minimum, "MAXIMUM": self.maximum, "MEAN": self.mean, "STDDEV": self.stddev}
        tags = {f"STATISTICS_{name}": repr(value) for name, value in values.items() if value is not None}
        return {"STATISTICS_VALID_PERCENT": f"{self.valid_percent:.4g}", **tags}


def halved(rows: NDArray[np.number], how: Overview, nodata: float | None) -> NDArray[np.number]:
    """(bands, h, w) -> (bands, ceil(h/2), ceil(w/2)), same dtype, each pixel from its 2 x 2.

    ``nearest`` takes the top left pixel, as GDAL does. ``mode`` takes the most frequent valid value, on a tie the
    first in reading order. ``average`` takes the mean of the valid values, rounded half up for integers; a mean that
    happens to equal nodata is moved to the next value, so that data never turn into nodata.
    """
    if how == "nearest":
        return np.ascontiguousarray(rows[:, ::2, ::2])
    h, w = rows.shape[1:]
    if h % 2 or w % 2:  # an edge pixel pairs with itself
        rows = np.pad(rows, ((0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    quad = [np.ascontiguousarray(rows[:, y::2, x::2]) for y in (0, 1) for x in (0, 1)]
    valid = None if nodata is None and rows.dtype.kind != "f" else [_valid(q, nodata) for q in quad]
    if valid is not None and all(v.all() for v in valid):
        valid = None
    return _mode(quad, valid) if how == "mode" else _average(quad, valid, nodata)


def _valid(values: NDArray[np.number], nodata: float | None) -> NDArray[np.bool_]:
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    if nodata is None or math.isnan(nodata):
        return np.ones(values.shape, bool) if finite is None else finite
    dtype: np.dtype = values.dtype
    differs: NDArray[np.bool_] = values != dtype.type(nodata)
    return differs if finite is None else differs & finite


def _mode(quad: list[NDArray[np.number]], valid: list[NDArray[np.bool_]] | None) -> NDArray[np.number]:
    a, b, c, d = quad
    if valid is None:
        lone = (a != b) & (a != c) & (a != d)
        second = lone & ((b == c) | (b == d))
        third = lone & ~second & (c == d)
    else:
        va, vb, vc, _ = valid  # a pair of nodata is not a pair
        lone = ~(va & ((a == b) | (a == c) | (a == d)))
        second = lone & vb & ((b == c) | (b == d))
        third = lone & ~second & vc & (c == d)
        single = lone & ~second & ~third & ~va  # no value twice, and the first is nodata: the first valid one
        second |= single & vb
        third |= single & ~vb & vc
        np.copyto(a, d, where=single & ~vb & ~vc)
    np.copyto(a, b, where=second)
    np.copyto(a, c, where=third)
    return a


def _average(
    quad: list[NDArray[np.number]], valid: list[NDArray[np.bool_]] | None, nodata: float | None
) -> NDArray[np.number]:
    dtype: np.dtype = quad[0].dtype
    whole = dtype.kind != "f"
    wide = np.dtype("f8" if not whole else "i8" if dtype.itemsize > 2 else "i4")
    if valid is None:
        total = quad[0].astype(wide)
        for q in quad[1:]:
            total += q
        mean = (total + 2) >> 2 if whole else total / 4
        count = None
    else:
        total = np.zeros(quad[0].shape, wide)
        for q, v in zip(quad, valid, strict=True):
            np.add(total, q, out=total, where=v, casting="unsafe")
        count = np.sum(valid, axis=0, dtype=wide)
        some = np.maximum(count, 1)
        mean = (2 * total + some) // (2 * some) if whole else total / some
    out: NDArray[np.number] = mean.astype(dtype)
    if nodata is not None and not math.isnan(nodata):
        none = dtype.type(nodata)
        clash = out == none
        if clash.any():
            out[clash] = _neighbour(none)
    if count is not None:
        out[count == 0] = quad[0][count == 0] if nodata is None else dtype.type(nodata)
    return out


def _neighbour(value: np.number) -> np.number:
    """The next value of the same type: above, or below where there is none above."""
    dtype: np.dtype = value.dtype
    one = dtype.type(1)
    if dtype.kind == "f":
        near: np.number = np.nextafter(value, dtype.type(0) if float(value) > 0 else one)
    else:
        near = value + one if int(value) < np.iinfo(dtype).max else value - one
    return near


class RunningStatistics:
    """Minimum, maximum, mean and standard deviation of a stream of pixels: exact for integers of up to 16 bits."""

    def __init__(self, bands: int, dtype: np.dtype, nodata: float | None) -> None:
        self._nodata, self._dtype = nodata, dtype
        self._pixels = 0
        self._narrow = dtype.kind in "iu" and dtype.itemsize <= 2
        self._counts = np.zeros((bands, 256**dtype.itemsize), np.int64) if self._narrow else None
        self._sums = [(0, 0.0, 0.0, math.inf, -math.inf)] * bands  # number, mean, squared deviations, minimum, maximum

    def add(self, rows: NDArray[np.number]) -> None:
        """Count (bands, h, w) more pixels."""
        self._pixels += rows[0].size
        for band, values in enumerate(rows):
            if self._counts is not None:
                self._counts[band] += _histogram(np.ascontiguousarray(values).ravel())
            else:
                self._sums[band] = _merged(self._sums[band], values[_valid(values, self._nodata)])

    def result(self) -> tuple[Statistics, ...]:
        """One per band."""
        if self._counts is not None:
            self._sums = [self._from_histogram(counts) for counts in self._counts]
        return tuple(
            Statistics(low, high, mean, math.sqrt(deviations / n), 100.0 * n / self._pixels)
            if n
            else Statistics(None, None, None, None, 0.0)
            for n, mean, deviations, low, high in self._sums
        )

    def _from_histogram(self, counts: NDArray[np.int64]) -> tuple[int, float, float, float, float]:
        unsigned: np.dtype = np.dtype(f"u{self._dtype.itemsize}")
        values = np.arange(counts.size).astype(unsigned).view(self._dtype)
        used = (counts > 0) & _valid(values, self._nodata)
        values, number = values[used].astype(np.float64), counts[used]
        if not number.size:
            return 0, 0.0, 0.0, math.inf, -math.inf
        n = int(number.sum())
        mean = float((values * number).sum() / n)
        deviations = float(((values - mean) ** 2 * number).sum())
        return n, mean, deviations, float(values.min()), float(values.max())


def _histogram(values: NDArray[np.number]) -> NDArray[np.int64]:
    """How often each bit pattern occurs in 8- or 16-bit integers, in pieces: bincount makes 8 bytes of each value."""
    even = values.size * values.itemsize // 2 * 2 // values.itemsize
    pairs = values[:even].view(np.uint16)  # two pixels of 8 bits at a time: half the work
    counts = np.zeros(65536, np.int64)
    for at in range(0, pairs.size, PIECE):
        counts += np.bincount(pairs[at : at + PIECE], minlength=65536)
    if values.itemsize == 2:
        return counts
    square = counts.reshape(256, 256)
    single: NDArray[np.int64] = square.sum(axis=0) + square.sum(axis=1)
    single[values[even:].view(np.uint8)] += 1
    return single


def _merged(
    sums: tuple[int, float, float, float, float], values: NDArray[np.number]
) -> tuple[int, float, float, float, float]:
    """Chan, Golub and LeVeque (1983): sums of two sets from the sums of each."""
    if not values.size:
        return sums
    n, mean, deviations, low, high = sums
    m, their_mean = values.size, float(values.mean(dtype=np.float64))
    theirs = float(np.square(values - their_mean, dtype=np.float64).sum())
    shift, total = their_mean - mean, n + m
    return (
        total,
        mean + shift * m / total,
        deviations + theirs + shift * shift * n * m / total,
        min(low, float(values.min())),
        max(high, float(values.max())),
    )
