"""Synthetic scenes of objects with known truth: rectangles of two classes and many sizes on texture, a model that finds
them, and shapes that do not fill their boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import shapely.geometry
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.engine.packages.exported import save_exported
from geoml.io.cards.detection import Detection, FoundClass, Sizes
from geoml.io.cards.map_card import Band, MapCard
from geoml.testing.scenes import card, smooth

RECTANGLES = ("roof", "field")
"""Classes of the rectangles: roofs are high in the first band and low in the second, fields the other way round."""
FORMS = ("disc", "angle")
"""Classes of the forms."""
TONES = ((6500, 700), (700, 6500))
BRIGHT = 4000.0
"""Between all ground and the high band of all objects, and about the middle of the two."""


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


def rectangles_apart(
    shape: tuple[int, int], longer: NDArray[np.float64], *, seed: int = 0, rim: bool = False
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """As `rectangles`, one of each of the ``longer`` sides (n,), the shorter one at least half of it.

    A quarter of its longer side is left free around each, so that it stays separate from its neighbours even in pixels
    in which it is small. Raises ValueError if they do not fit.
    """
    random = np.random.default_rng(seed)
    image = smooth((2, *shape), seed=seed, cell=12, low=1000, high=2600)
    taken = np.zeros(shape, np.bool_)
    found: list[tuple[int, ...]] = []
    for side in sorted(longer.astype(int).tolist(), reverse=True):
        sides = (side, max(int(side * random.uniform(0.5, 1)), side // 2 + 1))
        height, width = sides if random.random() < 0.5 else sides[::-1]
        for _ in range(2000):
            top, left = (int(random.integers(0, n - size)) for n, size in zip(shape, (height, width), strict=True))
            box = (int(random.integers(2)), top, left, top + height, left + width)
            if _place(image, taken, box, random, gap=side // 4 + 1, rim=rim):
                break
        else:
            raise ValueError(f"shape: {shape} holds {len(found)} of {len(longer)} rectangles")
        around = slice(max(top - side // 4, 0), top + height + side // 4)
        taken[around, max(left - side // 4, 0) : left + width + side // 4] = True
        found.append(box)
    return image, np.array(found, np.int64).reshape(-1, 5)


class RectangleFinder(nn.Module):
    """(B, 2, y, x), above 0 where `rectangles_apart` has an object, to raw output of objects (B, 6, y, x).

    Nothing is learnt. It sees ``reach`` pixels around each pixel. A rectangle whose ends it sees is found with high
    confidence; corners of a larger one are taken for objects with lower confidence, as by a real detector.
    """

    stride = 1
    SURE, UNSURE, NOTHING = 6.0, 0.5, -9.0

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        bright = (x > 0).float()
        north, west = (self._run(bright, dim) for dim in (2, 3))
        south, east = (self._run(bright.flip(dim), dim).flip(dim) for dim in (2, 3))
        whole, middle = bright, bright
        for before, after in ((north, south), (west, east)):  # of an even number of pixels the first is the middle
            whole = whole * (torch.maximum(before, after) <= self.reach).float()
            middle = middle * ((after - before) * (after - before - 1) == 0).float()
        corner = torch.zeros_like(bright)
        for a, b in ((north, west), (north, east), (south, west), (south, east)):
            corner = corner + (torch.maximum(a, b) == torch.minimum(a, b)).float() * (a == self.reach // 3).float()
        unsure = (corner * bright * (1 - whole)).clamp(max=1)
        heat = self.NOTHING + (self.SURE - self.NOTHING) * whole * middle + (self.UNSURE - self.NOTHING) * unsure
        second = (heat[:, 1:] > heat[:, :1]).float()
        runs = (run[:, :1] * (1 - second) + run[:, 1:] * second for run in (north, south, west, east))
        return torch.cat([heat, *(torch.log(run.clamp(max=self.reach) + 0.5) for run in runs)], 1)

    def _run(self, bright: Tensor, dim: int) -> Tensor:
        """Bright pixels in a row before each bright one, and at most one above the reach."""
        run, step = bright, 1
        while step <= self.reach + 1:  # twice as many each time
            before = nn.functional.pad(run, (0, 0, step, 0) if dim == 2 else (step, 0, 0, 0))
            run = run + (run == step).float() * before.narrow(dim, 0, run.shape[dim])
            step *= 2
        return (run - 1).clamp(0, self.reach + 1)


def rectangle_model(folder: Path, bands: Sequence[str], reach: int = 24, *, gsd: float = 10.0) -> MapCard:
    """Write a `RectangleFinder` as an exported program; its card says that it learnt sides of 8 to 2 x ``reach``."""
    side = 2 * reach
    nothing = FoundClass(
        threshold=0.3, chosen="default", calibration=None, candidates=0, matched=0, truth=0, found=0, hits=0
    )
    known = Detection(
        least=0.3, square=side * gsd, sizes=Sizes(least=8 * gsd, most=side * gsd, seen=(side + 1) * gsd),
        classes=dict.fromkeys(RECTANGLES, nothing),
    )  # fmt: skip
    scaled = [Band(name=b, mean=BRIGHT, std=BRIGHT / 2) for b in bands]
    about = {"task": "detection", "chip_size": 4 * reach, "gsd": gsd, "detection": known}
    made = card("rectangle-finder", scaled, RECTANGLES, **about)
    example = torch.zeros(2, len(bands), made.chip_size, made.chip_size)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(RectangleFinder(reach).eval(), (example,), dynamic_shapes=(free,))
    return save_exported(program, made, folder)


def _place(
    image: NDArray[np.uint16], taken: NDArray[np.bool_], box: Sequence[int], random: np.random.Generator,
    gap: int = 2, *, rim: bool = True,
) -> bool:  # fmt: skip
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
    if rim:
        edge = np.zeros((bottom - top, right - left), np.bool_)
        edge[[0, -1]], edge[:, [0, -1]] = True, True
        image[:, top:bottom, left:right][:, edge] = 300
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
