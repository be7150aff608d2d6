"""Made scenes of objects with known truth: rectangles of two classes and many sizes on texture, some touching."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.testing.scenes import smooth

RECTANGLES = ("roof", "field")
"""Classes of the rectangles: roofs are high in the first band and low in the second, fields the other way round."""
TONES = ((6500, 700), (700, 6500))


def rectangles(
    shape: tuple[int, int], count: int, *, seed: int = 0, sides: tuple[int, int] = (6, 48), touching: float = 0.2
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """An image (2, y, x) uint16 and its rectangles (n, 5): index of the class, top, left, bottom, right in pixels.

    At most ``count`` of them, whole and without an overlap; sizes are drawn on a logarithmic scale between ``sides``.
    A share of ``touching`` gets a neighbour that shares an edge with it. Each has a dark rim of a pixel.
    """
    random = np.random.default_rng(seed)
    image = smooth((2, *shape), seed=seed, cell=12, low=1000, high=2600)
    taken = np.zeros(shape, np.bool_)
    found: list[tuple[int, ...]] = []
    for _ in range(20 * count):
        if len(found) >= count:
            break
        height, width = np.exp(random.uniform(np.log(sides[0]), np.log(sides[1]), 2)).astype(int)
        top, left = (int(random.integers(1, max(n - size, 2))) for n, size in zip(shape, (height, width), strict=True))
        box = (int(random.integers(2)), top, left, top + int(height), left + int(width))
        if not _place(image, taken, box, random):
            continue
        found.append(box)
        beside = (1 - box[0], box[1], box[4], box[3], box[4] + int(width))
        if random.random() < touching and len(found) < count and _place(image, taken, beside, random, gap=0):
            found.append(beside)
    return image, np.array(found, np.int64).reshape(-1, 5)


def _place(
    image: NDArray[np.uint16], taken: NDArray[np.bool_], box: Sequence[int], random: np.random.Generator, gap: int = 2
) -> bool:
    """Paint a rectangle where nothing is within ``gap`` pixels; False where it does not fit."""
    index, top, left, bottom, right = box
    if bottom >= taken.shape[0] or right >= taken.shape[1]:
        return False
    if taken[max(top - gap, 0) : bottom + gap, max(left - gap, 0) : right + gap].any():
        return False
    taken[top:bottom, left:right] = True
    tone = np.array(TONES[index])[:, None, None] * random.uniform(0.8, 1.1)
    grain = random.normal(1, 0.03, (2, bottom - top, right - left))
    image[:, top:bottom, left:right] = tone * grain
    rim = np.zeros((bottom - top, right - left), np.bool_)
    rim[[0, -1]], rim[:, [0, -1]] = True, True
    image[:, top:bottom, left:right][:, rim] = 300
    return True


def write_boxes(path: Path, boxes: NDArray[np.int64], names: Sequence[str] = RECTANGLES) -> Path:
    """Write boxes as `rectangles` gives them as GeoJSON in pixels, with the name of the class as ``name``."""
    features: list[dict[str, Any]] = []
    for index, top, left, bottom, right in boxes.tolist():
        ring = [[left, top], [left, bottom], [right, bottom], [right, top], [left, top]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"name": names[index]}, "geometry": geometry})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path
