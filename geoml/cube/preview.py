"""Quicklooks: a small picture of a mosaic for a report, and the contrast stretch that a whole run shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.io.spectrum import asked

Stretch = tuple[tuple[float, float], ...]

SIDE = 512
"""Pixels of a quicklook's longer side, at most."""

COLOURS = (650.0, 560.0, 480.0)
"""Red, green and blue in nm."""


def stretch(data: NDArray[np.number], valid: NDArray[np.bool_], names: Sequence[str]) -> Stretch:
    """(low, high) of each shown band: the 2nd and 98th percentile of the valid pixels; (0, 1) when there are none."""
    step = max(1, max(valid.shape) // SIDE)
    seen = valid[::step, ::step]
    if not seen.any():
        return ((0.0, 1.0),) * len(channels(names))
    bands = [data[k, ::step, ::step][seen] for k in channels(names)]
    return tuple((float(low), float(high)) for low, high in (np.percentile(b, (2, 98)) for b in bands))


def quicklook(
    data: NDArray[np.number],
    valid: NDArray[np.bool_],
    names: Sequence[str],
    limits: Stretch | None = None,
    *,
    side: int = SIDE,
) -> tuple[NDArray[np.uint8], int]:
    """((h, w, 3) uint8 with both sides at most ``side``, the factor by which pixels were averaged).

    ``data`` (band, y, x), ``valid`` (y, x). Red, green and blue where ``names`` has them, or the bands at their
    wavelengths, else the first three bands, else the first in grey. ``limits`` is a :func:`stretch`, measured here when
    absent; nothing known is black.
    """
    factor = max(1, -(-max(valid.shape) // side))
    shown = channels(names)
    limits = stretch(data, valid, names) if limits is None else limits
    weight = _summed(valid.astype(np.float32), factor)
    layers = []
    for k, (low, high) in zip(shown, limits, strict=True):
        total = _summed(np.where(valid, data[k], 0).astype(np.float32), factor)
        value = total / np.maximum(weight, 1)
        scaled = (value - low) / max(high - low, 1e-12)
        layers.append(np.where(weight > 0, np.clip(scaled, 0, 1) * 255, 0).astype(np.uint8))
    return np.stack(layers if len(layers) == 3 else layers * 3, axis=-1), factor


def shown(block: int, region: int) -> int:
    """Pixels of a side that a picture of `SIDE` pixels shows of a ``block`` of so many: those that the ``region`` has,
    so that a small one is as sharp as its data; a whole picture has four times `SIDE` pixels then, at most."""
    return min(block, max(region, block // 4))


def thinning(size: int) -> int:
    """Every so many pixels are one of what a picture of ``size`` is made of: two for one tell enough."""
    return max(1, size // (2 * SIDE))


def picture_factor(size: int) -> int:
    """Pixels of a block along a pixel of a picture that shows ``size`` of them in `SIDE`."""
    step = thinning(size)
    thin = -(-size // step)
    return step * max(1, -(-thin // SIDE))


def covered(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """(h, w) True for cells of ``factor`` x ``factor`` pixels with one that is."""
    return _summed(mask.astype(np.float32), factor) > 0


def channels(names: Sequence[str]) -> tuple[int, ...]:
    """Indexes of the three bands that a quicklook shows, or of the only one."""
    known = list(names)
    if all(name in known for name in ("red", "green", "blue")):
        return tuple(known.index(name) for name in ("red", "green", "blue"))
    lengths = {k: said.wavelength for k, name in enumerate(known) if (said := asked(name))}
    if len(lengths) >= 3:
        return tuple(min(lengths, key=lambda k: abs(lengths[k] - colour)) for colour in COLOURS)
    return (0, 1, 2) if len(known) >= 3 else (0,)


def stretched(image: NDArray[np.number], valid: NDArray[np.bool_], limits: Stretch) -> NDArray[np.uint8]:
    """(H, W, band) numbers as uint8 between the limits (low, high) of each band; (H, W) where there is one band."""
    low, high = np.array(limits, np.float32).T
    value = (image.astype(np.float32) - low) * (255 / np.maximum(high - low, 1e-12))
    out = np.where(valid[..., None], np.clip(np.rint(value), 0, 255), 0).astype(np.uint8)
    return out[..., 0] if out.shape[-1] == 1 else out


def contrast(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W) or (H, W, 3) stretched between its own 2nd and 98th percentiles."""
    bands = image[..., None] if image.ndim == 2 else image
    everywhere = np.ones(bands.shape[:2], bool)
    return stretched(bands, everywhere, stretch(np.moveaxis(bands, -1, 0), everywhere, ["grey"] * bands.shape[2]))


def _summed(layer: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Sums over ``factor`` x ``factor`` cells; the last ones may be smaller."""
    rows = np.add.reduceat(layer, np.arange(0, layer.shape[0], factor), axis=0)
    out: NDArray[np.float32] = np.add.reduceat(rows, np.arange(0, layer.shape[1], factor), axis=1)
    return out
