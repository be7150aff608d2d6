"""Augmentation: image, valid mask and target of a chip move together; brightness moves the image only."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import Augmentation
from geoml.data.scene import Sample

T = TypeVar("T", bound=np.generic)


def d4(array: NDArray[T], k: int) -> NDArray[T]:
    """Element ``k`` (0..7) of the symmetries of the square, on the last two axes: k % 4 quarter turns, then a flip."""
    turned = np.rot90(array, k % 4, axes=(-2, -1))
    return turned[..., ::-1] if k >= 4 else turned


def augment(
    sample: Sample,
    how: Augmentation,
    rng: np.random.Generator,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> Sample:
    """One random variant of a square chip. ``mean`` and ``std`` (C,) are those of the training pixels.

    Contrast scales around the mean and brightness adds a share of the std, so both mean the same for every band; pixels
    without data stay 0.
    """
    image, valid, target = sample.image.astype(np.float32), sample.valid, sample.target
    if how.flips:
        k = int(rng.integers(8))
        image, valid, target = d4(image, k), d4(valid, k), d4(target, k)
    if how.brightness or how.contrast or how.band_jitter:
        gain = 1 + rng.uniform(-how.contrast, how.contrast)
        shift = rng.uniform(-how.brightness, how.brightness)
        bands = rng.uniform(-how.band_jitter, how.band_jitter, len(mean))
        centre = mean[:, None, None]
        moved = centre + (image - centre) * np.float32(gain)
        moved += ((shift + bands).astype(np.float32) * std)[:, None, None]
        image = np.where(valid, moved, np.float32(0))
    return Sample(image, valid, target)
