"""Augmentation: image, valid mask and target of a chip move together; brightness moves the image only.

A chip that is turned by any angle is cut out of a larger one: `drawn` says how large it is, `rotate` turns it.

Of a pair (or more dates) every date moves alike, and each has its own brightness.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from geoml.data.recipe import Augmentation
from geoml.data.rotation import Rotation
from geoml.data.scene import Sample
from geoml.data.target import Target, d4


def drawn(how: Augmentation, rng: np.random.Generator, size: int) -> Rotation | None:
    """How a chip of ``size`` pixels is turned and scaled; None, and nothing is drawn, where it never is."""
    if not how.rotate and not how.scale:
        return None
    angle, power = rng.uniform(-how.rotate, how.rotate), rng.uniform(-1, 1)
    return Rotation(size, math.radians(angle), (1 + how.scale) ** power)


def rotate(larger: Sample, kind: Target, rotation: Rotation) -> Sample:
    """The chip that is seen in a larger one. Every date moves alike; what is not known of a pixel stays unknown."""
    image, valid = rotation.bilinear(larger.image, larger.valid)
    return Sample.of(image, valid, kind.rotated(larger.target, rotation), kind)


def augment(
    sample: Sample,
    kind: Target,
    how: Augmentation,
    rng: np.random.Generator,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    dates: int = 1,
) -> Sample:
    """One random variant of a square chip. ``mean`` and ``std`` (C,) are those of the training pixels.

    Contrast scales around the mean and brightness adds a share of the std, so both mean the same for every band; pixels
    without data stay 0. The C channels are ``dates`` equal groups.
    """
    image, valid, target = sample.image.astype(np.float32), sample.valid, sample.target
    if how.flips:
        k = int(rng.integers(8))
        image, valid, target = d4(image, k), d4(valid, k), kind.turned(target, k, len(valid))
    by_date = image.reshape(dates, -1, *image.shape[1:])
    if how.swap and kind.moves is not None and rng.random() < how.swap:
        by_date, target = by_date[::-1], kind.moves.reversed(target)
    if how.same and kind.moves is not None and rng.random() < how.same:
        by_date, target = np.repeat(by_date[[rng.integers(dates)]], dates, axis=0), kind.moves.unchanged(valid)
    if how.brightness or how.contrast or how.band_jitter:
        parts = zip(by_date, np.split(mean, dates), np.split(std, dates), strict=True)
        by_date = np.stack([_radiometry(part, how, rng, m, s) for part, m, s in parts])
        by_date = np.where(valid, by_date, np.float32(0))
    return Sample(by_date.reshape(image.shape), valid, target)


def _radiometry(
    image: NDArray[np.float32],
    how: Augmentation,
    rng: np.random.Generator,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
) -> NDArray[np.float32]:
    """One date, brighter or darker."""
    gain = 1 + rng.uniform(-how.contrast, how.contrast)
    shift = rng.uniform(-how.brightness, how.brightness)
    bands = rng.uniform(-how.band_jitter, how.band_jitter, len(mean))
    centre = mean[:, None, None]
    moved: NDArray[np.float32] = centre + (image - centre) * np.float32(gain)
    moved += ((shift + bands).astype(np.float32) * std)[:, None, None]
    return moved
