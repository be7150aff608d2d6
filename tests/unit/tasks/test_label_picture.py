"""Ten labels on their images: frames lie on the edges of boxes, and all classes and sizes are there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from geoml import testing
from geoml.data.prepare import prepare
from geoml.data.scene import LabelledScene
from geoml.engine import task as tasks
from geoml.nn.metrics import IGNORE
from geoml.tasks._label_picture import GAP, NO_DATA, SIDE, Label, picture, spread
from geoml.testing.objects import write_boxes, write_outlines

COLORS = {"roof": (170, 0, 0), "field": (0, 0, 170)}


def recipe(root: Path, **changes: Any) -> Any:
    value = {
        "name": "made", "task": "detection", "bands": ["red", "green", "blue"], "gsd": 10,
        "model": {"architecture": "centre", "config": {"encoder": "plain", "depth": 3, "decoder_channels": [8, 8, 8]}},
        "classes": [{"value": k, "name": n, "color": "#" + bytes(c).hex()} for k, (n, c) in enumerate(COLORS.items())],
        "source": {
            "kind": "boxes", "root": str(root), "images": "{id}.tif", "boxes": "{id}.geojson", "field": "name",
            "coordinates": "pixels", "file_bands": ["red", "green", "blue"],
        },
        "split": {"kind": "files", "val": ["b"]},
        **changes,
    }  # fmt: skip
    return tasks.find("detection").recipe.model_validate(value)


def scenes(root: Path, boxes: list[list[int]]) -> None:
    for k, name in enumerate("ab"):
        data = np.full((3, 64, 64), 100, np.uint8)
        data[:, :, 60:] = 0
        place = Affine(10, 0, 600_000 + 5000 * k, 0, -10, 7_000_000)
        testing.write_cog(root / f"{name}.tif", data, crs="EPSG:32621", transform=place, nodata=0)
        write_boxes(root / f"{name}.geojson", np.array(boxes, int).reshape(-1, 5), tuple(COLORS))


def drawn(root: Path) -> NDArray[np.uint8]:
    made = recipe(root)
    splits = prepare(made)
    return np.asarray(Image.open(io.BytesIO(picture(splits["train"], made))))


def test_a_frame_lies_on_the_edges_of_its_box(tmp_path: Path) -> None:
    scenes(tmp_path, [[1, 10, 20, 34, 44]])
    panel = drawn(tmp_path)[GAP : GAP + SIDE, GAP : GAP + SIDE]
    scale, first_row, first_col = 4, -8, 2  # 2.5 times 24 pixels are shown, around the middle of the box
    ink = (panel == COLORS["field"]).all(-1)
    rows, cols = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    for seen, low, high, first in ((rows, 10, 34, first_row), (cols, 20, 44, first_col)):
        assert abs(seen[0] - scale * (low - first)) <= 1
        assert abs(seen[-1] - scale * (high - first)) <= 1
    assert (panel[: -scale * first_row] == NO_DATA).all(), "above the image"
    assert (panel[:, scale * (60 - first_col) :] == NO_DATA).all(), "where there are no data"


def test_a_picture_of_no_label_is_white(tmp_path: Path) -> None:
    scenes(tmp_path, [])
    assert (drawn(tmp_path) == 255).all()


def test_labels_are_spread_over_classes_and_sizes() -> None:
    scene = LabelledScene("a", (9, 9), lambda: None)  # type: ignore[arg-type, return-value]
    boxes = [[0, 0, 0, 0, side, side] for side in range(1, 101)] + [[1, 0, 0, 0, 5, 5], [IGNORE, 1, 0, 0, 7, 7]]
    chosen = spread([Label(scene, np.array(b, float)) for b in boxes])
    assert len(chosen) == 10
    assert [label.box[0] for label in chosen] == [0] * 9 + [1]
    sides = [label.box[4] for label in chosen[:9]]
    assert (sides[0], sides[-1]) == (1, 100)
    assert (np.diff(sides) > 10).all()
    assert len(spread([Label(scene, np.array(b, float)) for b in boxes[-3:]])) == 2


def test_a_turned_label_has_turned_corners() -> None:
    """The middle stays, a quarter turn swaps the sides, and angles go from east towards south, as rows do."""
    scene = LabelledScene("a", (9, 9), lambda: None)  # type: ignore[arg-type, return-value]
    box = [0, 0, 10, 20, 14, 40]
    corners = Label(scene, np.array([*box, np.pi / 2])).ring
    assert sorted(corners[:4].round(6).tolist()) == [[28, 2], [28, 22], [32, 2], [32, 22]]
    east = Label(scene, np.array([*box, np.pi / 6])).ring[1:3].mean(0) - [30, 12]
    np.testing.assert_allclose(east, 10 * np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)]))


def test_a_training_leaves_the_picture_and_a_page_with_it(tmp_path: Path) -> None:
    scenes(tmp_path, [[0, 4, 4, 16, 20], [1, 30, 30, 50, 44]])
    made = recipe(tmp_path, epochs=1, batch=2, chip_size=32, sampling={"samples": 2}, seed=1)
    out = tmp_path / "out"
    tasks.find("detection").fit(made, out)
    with Image.open(out / "labels.png") as file:
        assert file.format == "PNG"
    page = (out / "scores.html").read_text(encoding="utf-8")
    assert "Held-out scores of made" in page
    assert 'src="data:image/png;base64,' in page


def test_the_rim_of_an_outline_lies_on_the_pixels_that_it_holds(tmp_path: Path) -> None:
    scenes(tmp_path, [])
    shape = shapely.Polygon([(20, 10), (44, 10), (44, 18), (30, 18), (30, 34), (20, 34)])
    for name in "ab":
        write_outlines(tmp_path / f"{name}.geojson", [(1, shape)], tuple(COLORS))
    made = recipe(tmp_path, model={"architecture": "faster_rcnn", "config": {"masks": True}})
    panel = np.asarray(Image.open(io.BytesIO(picture(prepare(made)["train"], made))))[
        GAP : GAP + SIDE, GAP : GAP + SIDE
    ]
    ink = (panel == (0x00, 0xB8, 0xD4)).all(-1)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / 4 + np.array([-8, 2])[:, None, None]
    held = shapely.contains_xy(shape, x, y)
    assert not (ink & ~held).any()
    border = shapely.distance(shape.exterior, shapely.points(x, y)) < 0.15
    assert (ink == (held & border)).all()
