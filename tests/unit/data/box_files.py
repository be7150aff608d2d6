"""One made image with known boxes, and files of them in every format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from affine import Affine
from PIL import Image

from geoml import testing
from geoml.data.prepare import scenes
from geoml.data.targets.boxes import boxes_of
from geoml.engine import task as tasks
from geoml.errors import DataError

HEIGHT, WIDTH = 80, 100
BOXES = {"roof": [(0, 0, 12, 9), (90, 70, 100, 80)], "field": [(30, 20, 51, 44)]}
"""Left, top, right, bottom: edges of pixels. Two lie in the corners of the image."""
CLASSES = [{"value": 7, "name": "roof", "color": "#aa0000"}, {"value": 3, "name": "field", "color": "#00aa00"}]
TRUTH = sorted((k, 0.0, t, x, b, r) for k, n in enumerate(BOXES) for x, t, r, b in BOXES[n])
ALL = [(name, box) for name, boxes in BOXES.items() for box in boxes]

Box = tuple[float, float, float, float]
Writer = Callable[[Path, Sequence[tuple[str, Box]]], None]


def image(folder: Path, name: str = "a", placed: bool = True) -> None:
    """Rectangles that are bright where a box is; with a place, or a PNG without one."""
    data = np.full((1, HEIGHT, WIDTH), 20, np.uint8)
    for _, (left, top, right, bottom) in ALL:
        data[:, int(top) : int(bottom), int(left) : int(right)] = 200
    data[0, 40, 60] = sum(name.encode()) % 200  # no copy of another
    if placed:
        place = Affine(10, 0, 600_000 + 5_000 * (ord(name[-1]) - ord("a")), 0, -10, 7_000_000)
        testing.write_cog(folder / f"{name}.tif", data, crs="EPSG:32621", transform=place)
    else:
        Image.fromarray(data[0]).save(folder / f"{name}.tif", "PNG")


def recipe(folder: Path, form: str, **changes: Any) -> Any:
    ends = {"voc": "xml", "yolo": "txt", "vector": "geojson"}
    boxes = f"{{id}}.{ends[form]}" if form in ends else {"coco": "all.json", "deepforest": "all.csv"}[form]
    declared = {"yolo": {"coordinates": "relative", "values": {"0": 7, "1": 3}}, "vector": {"field": "name"}}
    source = {
        "kind": "boxes", "root": str(folder), "images": "{id}.tif", "boxes": boxes, "format": form,
        "coordinates": "pixels", "file_bands": ["grey"], **declared.get(form, {}),
        **({"corners": "edges"} if form in ("voc", "deepforest") else {}),
    }  # fmt: skip
    own = {k: changes.pop(k) for k in ("split", "gsd") if k in changes}
    value = {
        "name": "made", "task": "detection", "model": {"architecture": "centre"}, "bands": ["grey"], "gsd": 10,
        "classes": CLASSES, "split": {"kind": "files"}, "source": {**source, **changes}, **own,
    }  # fmt: skip
    return tasks.find("detection").recipe.model_validate(value)


def voc(path: Path, boxes: Sequence[tuple[str, Box]], shift: Sequence[float] = (0, 0, 0, 0), **said: str) -> None:
    keys = ("xmin", "ymin", "xmax", "ymax")
    head = {"filename": f"{path.stem}.tif", "width": str(WIDTH), "height": str(HEIGHT), **said}
    lines = ["<annotation>", f"<filename>{head['filename']}</filename>", "<size>"]
    lines += [f"<{k}>{head[k]}</{k}>" for k in ("width", "height")] + ["</size>"]
    for name, box in boxes:
        sides = "".join(f"<{k}>{v + s}</{k}>" for k, v, s in zip(keys, box, shift, strict=True))
        lines += ["<object>", f"<name>{name}</name>", f"<bndbox>{sides}</bndbox>", "</object>"]
    path.with_suffix(".xml").write_text("\n".join([*lines, "</annotation>"]))


def yolo(path: Path, boxes: Sequence[tuple[str, Box]]) -> None:
    rows = []
    for name, (x0, y0, x1, y1) in boxes:
        numbers = ((x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT)
        rows.append(" ".join([str(list(BOXES).index(name)), *map(repr, numbers)]))
    path.with_suffix(".txt").write_text("\n".join(rows))


def coco_value(boxes: Sequence[tuple[str, Box]]) -> dict[str, Any]:
    made = [
        {"id": k, "image_id": 1, "category_id": list(BOXES).index(n), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for k, (n, (x0, y0, x1, y1)) in enumerate(boxes)
    ]
    pictures = [{"id": 1, "file_name": "a.tif", "width": WIDTH, "height": HEIGHT}]
    return {"images": pictures, "annotations": made, "categories": [{"id": k, "name": n} for k, n in enumerate(BOXES)]}


def coco(path: Path, boxes: Sequence[tuple[str, Box]]) -> None:
    path.with_name("all.json").write_text(json.dumps(coco_value(boxes)))


def deepforest(path: Path, boxes: Sequence[tuple[str, Box]]) -> None:
    rows = [
        "image_path,xmin,ymin,xmax,ymax,label",
        *(f"a.tif,{x0},{y0},{x1},{y1},{n}" for n, (x0, y0, x1, y1) in boxes),
    ]
    path.with_name("all.csv").write_text("\n".join(rows))


def vector(path: Path, boxes: Sequence[tuple[str, Box]]) -> None:
    features = [
        {"type": "Feature", "properties": {"name": n}, "geometry": shapely.geometry.mapping(shapely.box(*box))}
        for n, box in boxes
    ]
    value = {"type": "FeatureCollection", "features": features}
    path.with_suffix(".geojson").write_text(json.dumps(value))


WRITERS: Mapping[str, Writer] = {
    "voc": voc, "yolo": yolo, "coco": coco, "deepforest": deepforest, "vector": vector,
}  # fmt: skip


def found(made: Any) -> list[tuple[float, ...]]:
    (scene,) = scenes(made)
    return sorted(tuple(r) for r in boxes_of(scene.read().target).round(4).tolist())


def fault(made: Any) -> str:
    with pytest.raises(DataError) as caught:
        scenes(made)
    return str(caught.value)
