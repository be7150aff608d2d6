"""Random crops of one picture for training, by its kind.

A ground photo keeps its left and its right, its up and its colours: signs, the side of the road and the light of a
place are what tells it. A picture from above has no up, so it may have any heading.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LEAST = 0.7
"""Share of the side that a crop keeps."""
LIGHT = 0.25
"""Factor of brightness and of contrast, either way."""

Kind = Literal["overhead", "photo"]


def augment(rgb: NDArray[np.uint8], size: int, kind: Kind, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 of a square picture (S, S, 3): a part of it in another light, turned if from above."""
    side = rgb.shape[0] * rng.uniform(LEAST, 1.0)
    angle = rng.uniform(0.0, 2 * np.pi) if kind == "overhead" else 0.0
    if kind == "overhead":  # what a turned square holds of the picture at any angle
        side /= abs(np.cos(angle)) + abs(np.sin(angle))
    free = rgb.shape[0] - side * (abs(np.cos(angle)) + abs(np.sin(angle)))
    middle = rgb.shape[0] / 2 + rng.uniform(-0.5, 0.5, 2) * max(free, 0.0)
    c, s, step = np.cos(angle) * side / size, np.sin(angle) * side / size, size / 2
    x, y = middle[0] - c * step + s * step, middle[1] - s * step - c * step
    cut = Image.fromarray(rgb).transform(
        (size, size), Image.Transform.AFFINE, (c, -s, x, s, c, y), Image.Resampling.BILINEAR
    )
    value = np.asarray(cut, np.float32)
    grey = value.mean()
    value = (value - grey) * rng.uniform(1 - LIGHT, 1 + LIGHT) + grey * rng.uniform(1 - LIGHT, 1 + LIGHT)
    return np.asarray(np.clip(np.rint(value), 0, 255), np.uint8)
