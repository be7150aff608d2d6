"""Season augmentation: other seasons and light for a picture of the ground from above, made from the picture itself.

A network that saw a place in one month only takes its colours for the place. So training sees each place also with
plants gone brown or green, snow in patches, another white balance, saturation, gamma and sharpness. Nothing here knows
another month's real picture; what it is worth is measured on one that was never trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

BROWN = np.array([0.46, 0.36, 0.24], np.float32)
"""Bare soil and dry grass, as in pictures without snow of the winter half of the year."""
GREEN = np.array([0.18, 0.28, 0.10], np.float32)
"""Grass and crops in their season."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


def augment(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (H, W, 3) uint8 in another random season and light, the same for the same state of ``rng``."""
    x = rgb.astype(np.float32) / 255.0
    land = _land(x)
    if rng.random() < 0.6:
        x = _plants(x, land, rng)
    if rng.random() < 0.3:
        x = _snow(x, land, rng)
    if rng.random() < 0.5:
        x = ndimage.gaussian_filter(x, (rng.uniform(0.3, 1.5),) * 2 + (0.0,))
    grey = (x @ LUMA)[..., None]
    x = grey + (x - grey) * np.float32(rng.uniform(0.3, 1.4))
    x = x * np.exp(rng.normal(0.0, 0.1, 3)).astype(np.float32) * np.float32(np.exp(rng.normal(0.0, 0.15)))
    x = np.clip(x, 0.0, 1.0) ** np.float32(np.exp(rng.normal(0.0, 0.2)))
    return np.rint(x * 255.0).astype(np.uint8)


def _land(x: Image) -> Image:
    """(H, W, 1): 1 on land, 0 where the picture is as blue as open water."""
    blue = x[..., 2] - np.maximum(x[..., 0], 0.9 * x[..., 1])
    return np.asarray(np.clip(1.0 - 20.0 * (blue - 0.02), 0.0, 1.0)[..., None], np.float32)


def _patches(shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """(H, W, 1) smooth random field within 0 and 1, with patches of a few sizes."""
    size = int(rng.integers(3, 9))
    coarse = rng.random((size, size)).astype(np.float32)
    field = ndimage.zoom(coarse, (shape[0] / size, shape[1] / size), order=1, grid_mode=True, mode="nearest")
    return np.asarray(field[: shape[0], : shape[1], None], np.float32)


def _plants(x: Image, land: Image, rng: np.random.Generator) -> Image:
    green = np.clip((x[..., 1:2] - 0.5 * (x[..., 0:1] + x[..., 2:3])) * 12.0, 0.0, 1.0)
    light = 0.5 + (x @ LUMA)[..., None] / max(float((x @ LUMA).mean()), 0.05) * 0.5
    share = np.float32(rng.uniform(0.0, 0.9)) * (0.5 + 0.5 * _patches(x.shape, rng)) * land
    if rng.random() < 0.65:
        changed = x + green * share * (BROWN * np.float32(rng.uniform(0.5, 1.0)) * light - x)
    else:
        changed = x + (1.0 - green) * share * 0.7 * (GREEN * light - x)
    return np.asarray(changed, np.float32)


def _snow(x: Image, land: Image, rng: np.random.Generator) -> Image:
    edge = np.float32(rng.uniform(0.1, 0.9))
    cover = np.clip((_patches(x.shape, rng) - edge) * 6.0 + 0.5, 0.0, 1.0) * land
    rough = np.float32(0.75) + 0.5 * ((x @ LUMA)[..., None] - float((x @ LUMA).mean()))
    return np.asarray(x + cover * np.float32(rng.uniform(0.3, 0.95)) * (np.clip(rough, 0.4, 1.0) - x), np.float32)
