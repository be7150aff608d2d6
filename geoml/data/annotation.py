"""What files of boxes say, before it is known to be right: one `Annotation` for each object, by image.

A format is a file in `geoml.data.annotations`. It has ``COORDINATES``, of which a recipe may declare one (the first is
the default), ``CORNERS``: whether a recipe has to say what its corners mean, and
``read(path, source, problems) -> list[Record]``, which adds what cannot be read to ``problems`` and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geoml.registry import Registry

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

FORMATS = Registry("geoml.data.annotations", "format of boxes")

Coordinates = Literal["pixels", "relative", "crs"]
Corners = Literal["edges", "pixels_from_0", "pixels_from_1"]
SHIFTS: dict[Corners, tuple[float, float]] = {"edges": (0, 0), "pixels_from_0": (0, 1), "pixels_from_1": (-1, 0)}
"""What is added to the first and the last number of a side to have edges of pixels, 0 being that of the image."""

MOST_BYTES = 2**30
"""Of a file of boxes; what is larger is not read."""
MOST_OBJECTS = 5_000_000
"""Of a file."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object as a file tells of it.

    ``sides`` are left, top, right, bottom in the file's own numbers, whatever they are; ``outline`` has the same
    coordinates and is None if the box is all that is known. ``unknown``: there is something, but not to be learnt.
    ``rotated``: the format has boxes with a heading, and this is one.
    """

    where: str
    sides: tuple[float, float, float, float]
    label: str | None = None
    outline: BaseGeometry | None = None
    unknown: bool = False
    rotated: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What a file says of one image.

    ``image`` is the name that it gives it, None if it is that of the file; ``size`` (y, x) in pixels where it is
    said; ``crs`` that of coordinates in one.
    """

    objects: tuple[Annotation, ...]
    image: str | None = None
    size: tuple[int, int] | None = None
    crs: str | None = None


def number(text: object) -> float:
    """A float; NaN for anything else."""
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def strange_path(name: str) -> bool:
    """Whether a name in a file leads out of the folder of the images."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name[:1] in ("/", "\\") or ":" in parts[0] or "\0" in name


def too_large(path: Path, problems: list[str]) -> bool:
    """Whether a file is beyond `MOST_BYTES`, which is then a problem."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        problems.append(f"{path}: {size} bytes; at most {MOST_BYTES} are read")
    return size > MOST_BYTES


def too_many(path: Path, count: int, problems: list[str]) -> bool:
    """Whether a file has more than `MOST_OBJECTS`, which is then a problem."""
    if count > MOST_OBJECTS:
        problems.append(f"{path}: {count} objects; at most {MOST_OBJECTS} are read")
    return count > MOST_OBJECTS


def around(points: Iterable[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The sides of the upright box of points; NaN where one of them is."""
    xs, ys = zip(*points, strict=True)
    if not all(map(math.isfinite, (*xs, *ys))):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)
