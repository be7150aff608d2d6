"""COCO JSON (https://cocodataset.org/#format-data), one file for all images: x, y, width, height in pixels, edges.

``iscrowd`` is ground of which nothing is known. A polygon whose bounds are those of its box to a pixel is kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from geoml.data.annotation import Annotation, Record, number, strange_path, too_large, too_many
from geoml.errors import DataError
from geoml.texts import listed

COORDINATES = ("pixels",)
CORNERS = False
NEAR = 1.0
"""Pixels between a box and the bounds of its outline."""


def read(path: Path, source: Any, problems: list[str]) -> list[Record]:
    """Objects by image. Raises OSError or DataError for a file that has not the three lists."""
    if too_large(path, problems):
        return []
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: is not JSON ({err})") from err
    images, annotations, categories = (_entries(value, k, path) for k in ("images", "annotations", "categories"))
    if too_many(path, len(annotations), problems):
        return []
    for what, entries in (("image", images), ("annotation", annotations), ("category", categories)):
        double = [k for k, n in Counter(repr(e.get("id")) for e in entries).items() if n > 1]
        if double:
            problems.append(f"{path}: {what} ids that are there twice: {listed(double)}")
    names = {repr(c.get("id")): str(c.get("name")) for c in categories}
    found: dict[str, list[Annotation]] = {repr(i.get("id")): [] for i in images}
    for k, entry in enumerate(annotations):
        where, of = f"annotation {k} (id {entry.get('id')!r})", repr(entry.get("image_id"))
        if of not in found:
            problems.append(f"{path}: {where}: image_id {of} is the id of no image")
            continue
        if repr(entry.get("category_id")) not in names:
            problems.append(f"{path}: {where}: category_id {entry.get('category_id')!r} is the id of no category")
            continue
        found[of].append(_object(entry, where, names[repr(entry.get("category_id"))]))
    records = []
    for image in images:
        name = str(image.get("file_name"))
        if strange_path(name):
            problems.append(
                f"{path}: image {image.get('id')!r}: file_name {name!r} leads out of the folder of the images"
            )
            continue
        size = number(image.get("height")), number(image.get("width"))
        known = all(math.isfinite(s) and s > 0 for s in size)
        objects = tuple(found[repr(image.get("id"))])
        records.append(Record(objects, name, (int(size[0]), int(size[1])) if known else None))
    return records


def _entries(value: Any, key: str, path: Path) -> list[dict[str, Any]]:
    entries = value.get(key) if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise DataError(f"{path}: expected lists of images, annotations and categories, as COCO has them")
    return entries


def _object(entry: dict[str, Any], where: str, label: str) -> Annotation:
    box = entry.get("bbox")
    numbers = [number(v) for v in box] if isinstance(box, list) else []
    x, y, width, height = numbers[:4] if len(numbers) >= 4 else (math.nan,) * 4
    sides = (x, y, x + width, y + height)
    crowd = entry.get("iscrowd") in (1, True)
    outline = None if crowd else _outline(entry.get("segmentation"), sides)
    return Annotation(where, sides, label, outline, crowd, rotated=len(numbers) == 5)


def _outline(parts: Any, sides: tuple[float, float, float, float]) -> BaseGeometry | None:
    """Polygons of a segmentation that fills the box; None for run lengths and for what lies elsewhere."""
    if not isinstance(parts, list) or not parts:
        return None
    rings = []
    for part in parts:
        numbers = [number(v) for v in part] if isinstance(part, list) else []
        if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
            return None
        rings.append(Polygon(list(zip(numbers[::2], numbers[1::2], strict=True))))
    shape = rings[0] if len(rings) == 1 else MultiPolygon(rings)
    same = max(abs(a - b) for a, b in zip(shape.bounds, sides, strict=True)) <= NEAR
    return shape if same else None
