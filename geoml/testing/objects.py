"""Made scenes of objects with known truth: rectangles of two classes and many sizes on texture, some touching; and
forms that do not fill their boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from numpy.typing import NDArray

from geoml.testing.scenes import smooth

RECTANGLES = ("roof", "field")
"""Classes of the rectangles: roofs are high in the first band and low in the second, fields the other way round."""
FORMS = ("disc", "angle")
"""Classes of the forms."""
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


def forms(
    shape: tuple[int, int], count: int, *, seed: int = 0, sides: tuple[int, int] = (14, 40)
) -> tuple[NDArray[np.uint16], list[tuple[int, shapely.Polygon]]]:
    """An image (2, y, x) uint16 and what it shows: index of the class in `FORMS`, and the outline in pixels.

    At most ``count`` discs, high in the first band, and angles of two arms, high in the second, turned by quarters;
    whole, without an overlap of their boxes. ``sides`` bound those of the boxes.
    """
    random = np.random.default_rng(seed)
    image = smooth((2, *shape), seed=seed, cell=12, low=1000, high=2600)
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    taken: list[shapely.Polygon] = []
    found: list[tuple[int, shapely.Polygon]] = []
    for _ in range(20 * count):
        if len(found) >= count:
            break
        side, index = random.uniform(*sides), int(random.integers(2))
        form = shapely.Point(0.5, 0.5).buffer(0.5) if index == 0 else _angle(random)
        at = random.uniform(1, np.array(shape[::-1]) - side - 1)
        outline = shapely.transform(form, lambda xy, side=side, at=at: xy * side + at)
        room = shapely.box(*shapely.bounds(outline)).buffer(2, join_style="mitre")
        if any(room.intersects(other) for other in taken):
            continue
        taken.append(room)
        found.append((index, outline))
        inside = shapely.contains_xy(outline, cols, rows)
        tone = np.array(TONES[index])[:, None] * random.uniform(0.8, 1.1)
        image[:, inside] = tone * random.normal(1, 0.03, (2, int(inside.sum())))
    return image, found


def _angle(random: np.random.Generator) -> shapely.Polygon:
    """Two arms in a square of side 1, each a third to a half as wide."""
    a, b = random.uniform(0.33, 0.5, 2)
    ring = np.array([[0, 0], [a, 0], [a, 1 - b], [1, 1 - b], [1, 1], [0, 1]]) - 0.5
    turn = int(random.integers(4)) * np.pi / 2
    cos, sin = np.cos(turn), np.sin(turn)
    return shapely.Polygon((ring @ np.array([[cos, sin], [-sin, cos]]) + 0.5).round(12))


def write_outlines(path: Path, things: Sequence[tuple[int, shapely.Polygon]], names: Sequence[str] = FORMS) -> Path:
    """Write outlines as `forms` gives them as GeoJSON in pixels, with the name of the class as ``name``."""
    features: list[dict[str, Any]] = [
        {"type": "Feature", "properties": {"name": names[index]}, "geometry": shapely.geometry.mapping(outline)}
        for index, outline in things
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def write_boxes(path: Path, boxes: NDArray[np.int64], names: Sequence[str] = RECTANGLES) -> Path:
    """Write boxes as `rectangles` gives them as GeoJSON in pixels, with the name of the class as ``name``."""
    things = [(index, shapely.box(left, top, right, bottom)) for index, top, left, bottom, right in boxes.tolist()]
    return write_outlines(path, things, names)
