"""YOLO text: a line for each object with its class, centre and size as shares of the image; or class and four corners.

A line of nine numbers (class, x1 y1 … x4 y4) is a box with a heading, one of seven or more an outline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shapely.geometry import Polygon

from geoml.data.annotation import Annotation, Record, around, number, too_large, too_many

COORDINATES = ("relative",)
CORNERS = False


def read(path: Path, source: Any, problems: list[str]) -> list[Record]:
    """The objects of one image. Raises OSError or UnicodeError."""
    if too_large(path, problems):
        return []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if too_many(path, len(lines), problems):
        return []
    found = []
    for k, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        numbers = [number(w) for w in words[1:]]
        if len(numbers) == 4:
            x, y, width, height = numbers
            sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            found.append(Annotation(f"line {k}", sides, words[0]))
        elif len(numbers) >= 6 and len(numbers) % 2 == 0:
            corners = list(zip(numbers[::2], numbers[1::2], strict=True))
            sides = around(corners)
            outline = Polygon(corners) if sides[0] == sides[0] else None
            found.append(Annotation(f"line {k}", sides, words[0], outline, rotated=len(numbers) == 8))
        else:
            problems.append(f"{path}: line {k}: {len(words)} numbers; expected a class and x, y, width, height")
    return [Record(tuple(found))]
