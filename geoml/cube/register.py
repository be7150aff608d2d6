"""How far two dates of one place are shifted against each other, and moving the second onto the first.

Phase correlation (Kuglin & Hines 1975) of orientation images (Fitch et al. 2002, https://doi.org/10.5244/C.16.11) in
tiles; the peak is refined by a DFT that is upsampled around it (Guizar-Sicairos et al. 2008,
https://doi.org/10.1364/OL.33.000156). Orientations of gradients know neither gain nor brightness. A tile votes only
when its peak stands out of the noise, and the tiles must agree: change, clouds and water give no vote or a lone one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoml.errors import InputError

T = TypeVar("T", bound=np.generic)

TILE = 256
"""Pixels; smaller areas have tiles of half or a quarter."""
TILES = 5
"""Tiles along each side at most, evenly spread, so that a block of any size costs the same."""
SUPPORT = 0.5
"""Share of a tile that must be valid on both dates."""
BAND = 0.2
"""Cycles per pixel: width of the Gaussian over frequencies. Higher ones hold noise and what resampling did to them."""
STANDS_OUT = 6.0
"""Standard deviations of the correlation surface above its mean: a peak that noise does not reach."""
AGREE = 0.75
"""Pixels from the median within which a tile agrees."""
VOTES = 3
"""Tiles that must agree, and they must be the majority of those that vote."""
STEPS = 50
"""Positions per pixel of the upsampled DFT."""

Complex = NDArray[np.complex64]
Vector = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shift:
    """What ``first`` shows at (y, x), ``second`` shows at (y + dy, x + dx); pixels, y downwards.

    ``quality`` is the share of the measured tiles that agree, 0..1; ``tiles`` is how many those are.
    """

    dy: float
    dx: float
    quality: float
    tiles: int

    @property
    def length(self) -> float:
        """Pixels."""
        return math.hypot(self.dy, self.dx)


def shift(first: NDArray[np.number], second: NDArray[np.number], valid: NDArray[np.bool_]) -> Shift | None:
    """The shift between two dates (band, y, x), any numbers, of one grid; ``valid`` (y, x) is True where both are.

    None if it cannot be known: too little texture, too few valid pixels, too much change, less than 64 pixels on a
    side, or a shift of more than a quarter of a tile (64 pixels of 256). Memory is that of a few tiles. Raises
    InputError for shapes that do not fit.
    """
    if first.shape != second.shape or first.ndim != 3 or first.shape[1:] != valid.shape:
        found = f"{first.shape}, {second.shape}, {valid.shape}"
        raise InputError(f"first, second, valid: shapes {found}; expected (band, y, x) twice and (y, x)")
    side = next((s for s in (TILE, TILE // 2, TILE // 4) if min(valid.shape) >= 2 * s), TILE // 4)
    if min(valid.shape) < side:
        return None
    coarse = _agreed(*_votes(first, second, valid, side, (0, 0)), within=2 * AGREE)
    if coarse is None:
        return None
    # windows that show the same ground on both dates: no bias towards zero, and nothing lost at their edges
    return _agreed(*_votes(first, second, valid, side, (round(coarse.dy), round(coarse.dx))), within=AGREE)


def corrected(
    data: NDArray[Any], valid: NDArray[np.bool_], moved: Shift
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """The second date (band, y, x) and its validity (y, x) moved onto the first: out(y, x) = data(y + dy, x + dx).

    The dtype stays (integers are rounded); zero where nothing is known. Whole pixels are copied. Parts of a pixel are
    interpolated by cubic convolution (Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711), which keeps the contrast
    that a linear one blurs into false change, and a pixel is valid only where all that it is made of are: up to 4 by 4
    pixels. Parts below ``1 / STEPS`` cannot be measured and count as whole.
    """
    known, taps = valid, (_taps(moved.dy), _taps(moved.dx))
    for axis, weights in enumerate(taps):
        known = np.logical_and.reduce([_from(known, step, axis) for step in weights])
    out = np.zeros_like(data)
    for target, band in zip(out, data, strict=True):
        values = np.where(valid, band, 0)
        for axis, weights in enumerate(taps):
            if len(weights) == 1:
                values = _from(values, next(iter(weights)), axis)
            else:
                total = np.zeros(band.shape, np.float32)
                for step, weight in weights.items():
                    total += np.float32(weight) * _from(values, step, axis)
                values = total
        if data.dtype.kind in "iu" and values.dtype != data.dtype:
            limits = np.iinfo(data.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        np.copyto(target, values, where=known, casting="unsafe")
    return out, known


def _taps(distance: float) -> dict[int, float]:
    """The weight of each pixel along an axis by its distance, in pixels."""
    whole = math.floor(distance + 0.5 / STEPS)
    part = distance - whole
    return {whole: 1.0} if part < 1 / STEPS else dict(enumerate(_keys(part), start=whole - 1))


def _keys(part: float) -> list[float]:
    """Weights of the pixels at -1, 0, 1, 2 for a position ``part`` of the way from 0 to 1; they sum to one."""
    t = part
    return [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _from(array: NDArray[T], step: int, axis: int) -> NDArray[T]:
    """The array as seen ``step`` pixels further along an axis; zero (False) beyond its edge."""
    size = array.shape[axis]
    out = np.zeros_like(array)
    to, source = [slice(None)] * array.ndim, [slice(None)] * array.ndim
    to[axis] = slice(max(0, -step), max(0, min(size, size - step)))
    source[axis] = slice(max(0, step), max(0, min(size, size + step)))
    out[tuple(to)] = array[tuple(source)]
    return out


def _votes(
    first: NDArray[np.number], second: NDArray[np.number], valid: NDArray[np.bool_], side: int, offset: tuple[int, int]
) -> tuple[list[Vector], int]:
    """The shifts that stand out, and how many tiles were measured; the second date is cut ``offset`` further."""
    window = np.hanning(side + 2)[1:-1].astype(np.float32)
    window = np.outer(window, window)
    votes, measured = [], 0
    for y, x in _corners(valid.shape, side, offset):
        here = (slice(y, y + side), slice(x, x + side))
        there = (slice(y + offset[0], y + offset[0] + side), slice(x + offset[1], x + offset[1] + side))
        known = valid[here] & valid[there]
        if (window * known).sum() < SUPPORT * window.sum():
            continue
        measured += 1
        power = _orientation(first[:, *here], known, window)
        np.multiply(power.conj(), _orientation(second[:, *there], known, window), out=power)
        found = _peak(power)
        if found is not None:
            votes.append((found[0] + offset[0], found[1] + offset[1]))
    return votes, measured


def _corners(shape: tuple[int, ...], side: int, offset: tuple[int, int]) -> list[tuple[int, int]]:
    """Where tiles begin on the first date so that they lie inside on both."""
    starts = []
    for size, by in zip(shape, offset, strict=True):
        low, high = max(0, -by), min(size, size - by) - side
        count = min(TILES, math.ceil(2 * (high - low) / side) + 1) if high >= low else 0
        starts.append(np.linspace(low, high, count).round().astype(int).tolist() if count != 1 else [(low + high) // 2])
    return [(y, x) for y in starts[0] for x in starts[1]]


def _orientation(data: NDArray[np.number], known: NDArray[np.bool_], window: NDArray[np.float32]) -> Complex:
    """Spectrum of the gradient's direction as a complex number, damped where it is weak; zero where not known."""
    import scipy.fft
    import scipy.ndimage

    inside = scipy.ndimage.binary_erosion(known, border_value=0)
    sparse = np.zeros_like(inside)
    sparse[::4, ::4] = inside[::4, ::4]  # enough of them for a median
    sparse = sparse if sparse.any() else inside
    total = np.zeros(known.shape, np.complex64)
    for band in data:
        values = np.where(known, band, 0).astype(np.float32)
        slope = np.zeros(known.shape, np.complex64)
        slope.real[:, 1:-1] = values[:, 2:] - values[:, :-2]
        slope.imag[1:-1] = values[2:] - values[:-2]
        typical = float(np.median(np.abs(slope[sparse]))) if sparse.any() else 0.0
        if typical > 0:  # a band without texture says nothing
            total += slope / typical
    total[~inside] = 0
    size = np.abs(total)
    np.divide(total, size + np.median(size[sparse]) if sparse.any() else 1, out=total, where=size > 0)
    spectrum: Complex = scipy.fft.fft2(total * window)
    return spectrum


def _peak(power: Complex) -> Vector | None:
    """Where the phase correlation of a cross-power spectrum is highest; None if noise may be as high."""
    import scipy.fft

    side = power.shape[0]
    frequency = scipy.fft.fftfreq(side)
    damp = np.exp(-0.5 * (frequency / BAND) ** 2).astype(np.float32)
    size = np.abs(power)
    phase = np.divide(power, size, out=np.zeros_like(power), where=size > 0) * np.outer(damp, damp)
    reach = side // 4
    surface = np.roll(scipy.fft.ifft2(phase).real, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    at = np.unravel_index(surface.argmax(), surface.shape)
    rest = np.ones(surface.shape, bool)
    near = math.ceil(1 / BAND)
    rest[max(0, at[0] - near) : at[0] + near + 1, max(0, at[1] - near) : at[1] + near + 1] = False
    noise = surface[rest]
    if not surface[at] > noise.mean() + STANDS_OUT * noise.std():
        return None
    y, x = (int(k) - reach for k in at)
    around = np.arange(-STEPS, STEPS + 1) / STEPS
    rows = np.exp(2j * np.pi * np.outer(y + around, frequency)).astype(np.complex64)
    columns = np.exp(2j * np.pi * np.outer(frequency, x + around)).astype(np.complex64)
    fine = (rows @ phase @ columns).real
    best = np.unravel_index(fine.argmax(), fine.shape)
    return y + float(around[best[0]]), x + float(around[best[1]])


def _agreed(votes: list[Vector], measured: int, within: float) -> Shift | None:
    if len(votes) < VOTES:
        return None
    points = np.array(votes)
    middle = np.median(points, axis=0)
    near = np.hypot(*(points - middle).T) <= within
    if near.sum() < VOTES or 2 * near.sum() <= len(points):
        return None
    dy, dx = np.median(points[near], axis=0)
    return Shift(float(dy), float(dx), float(near.sum() / measured), int(near.sum()))
