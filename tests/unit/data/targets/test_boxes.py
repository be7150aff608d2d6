"""Boxes as a target: what crops, turns and masks make of them, and how a source reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml import testing
from geoml.data.prepare import scenes
from geoml.data.target import d4
from geoml.data.targets.boxes import BoxTarget, boxes_of
from geoml.engine import task as tasks
from geoml.errors import DataError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import INDEX, render
from geoml.testing.objects import rectangles, write_boxes
from geoml.vector.boxes import iou, outlines, smallest

CLASSES = tuple(ClassInfo(value=v, name=n, color="#102030") for v, n in ((7, "roof"), (3, "field")))
KIND = BoxTarget(CLASSES)
BOXES = np.array([[0, 4, 6, 20, 14], [1, 10, 30, 17, 61], [1, 40, 2, 44, 63]], float)
WHOLE = Window(0, 0, 64, 64)


def target() -> NDArray[np.float32]:
    return render(BOXES, WHOLE.shape)


def rows(found: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Index, whether it is not known, top, left, bottom, right; sorted by place."""
    return sorted((tuple(r) for r in found.round(3).tolist()), key=lambda r: r[2:])


def test_boxes_come_back() -> None:
    assert rows(boxes_of(target())) == rows(np.column_stack([BOXES[:, 0], 0 * BOXES[:, 0], BOXES[:, 1:]]))
    assert KIND.counted(target()).tolist() == [1, 2]


def test_a_crop_keeps_what_shows_two_fifths_and_knows_nothing_of_what_shows_less() -> None:
    seen = boxes_of(KIND.cut(target(), Window(0, 0, 64, 44), WHOLE))  # 14 of 31 columns of the second, 42 of 61
    assert rows(seen)[1] == (1, 0, 40, 2, 44, 63)
    assert len(seen) == 2, "the centre of the second lies outside"
    seen = boxes_of(KIND.cut(target(), Window(0, 8, 64, 42), Window(0, 0, 64, 42)))
    assert rows(seen) == [(0, 0, 4, -2, 20, 6), (1, 0, 40, -6, 44, 55)]
    seen = boxes_of(KIND.cut(target(), Window(0, 20, 64, 40), WHOLE))  # 20 of 61 columns
    assert rows(seen) == [(IGNORE, 1, 40, -18, 44, 43)]


def test_what_lies_outside_of_a_piece_is_unknown() -> None:
    found = KIND.cut(target(), Window(-8, -8, 24, 24), Window(0, 0, 64, 64))
    assert (found[INDEX, :8] == IGNORE).all()
    assert (found[INDEX, :, :8] == IGNORE).all()
    assert rows(boxes_of(found)) == [(0, 0, 12, 14, 28, 22)]
    nowhere = KIND.cut(target(), Window(100, 100, 132, 132), WHOLE)
    assert not KIND.labelled(nowhere, (32, 32)).any()


@pytest.mark.parametrize("k", range(8))
def test_a_turned_target_is_the_target_of_the_turned_image(k: int) -> None:
    painted = np.zeros((3, 64, 64), np.uint8)
    for n, (_, *edges) in enumerate(BOXES):
        top, left, bottom, right = map(int, edges)
        painted[n, top:bottom, left:right] = 1
    expected = []
    for index, mask in zip(BOXES[:, 0], d4(painted, k), strict=True):
        y, x = np.nonzero(mask)
        expected.append([index, 0, y.min(), x.min(), y.max() + 1, x.max() + 1])
    assert rows(boxes_of(KIND.turned(target(), k, 64))) == rows(np.array(expected, float))


def test_a_mask_leaves_the_rest_unknown_and_filling_knows_of_no_object() -> None:
    mask = np.ones((64, 64), bool)
    mask[:, :20] = False
    found = KIND.only(target(), mask)
    assert (KIND.labelled(found, (64, 64)) == mask).all()
    assert [r[0] for r in rows(boxes_of(found))] == [IGNORE, 1, 1]
    filled = KIND.filled(found, 0.0)
    assert KIND.labelled(filled, (64, 64)).all()
    assert len(boxes_of(filled)) == 2


def test_places_are_centres_and_ground_without_boxes() -> None:
    places = KIND.places(target())
    assert places[0].tolist() == [[11, 9], [11, 10], [12, 9], [12, 10]]
    assert sorted(places[1].tolist()) == [[13, 45], [41, 32], [42, 32]]
    assert len(places[2]) > 200
    empty = KIND.places(render(np.empty((0, 5)), WHOLE.shape))
    assert set(empty) == {2}, "a picture without objects is drawn too"
    assert KIND.places(render(np.empty((0, 5)), WHOLE.shape, IGNORE)) == {}


def test_polygons_become_their_bounding_boxes() -> None:
    geobox = GeoBox((64, 64), Affine(10, 0, 600_000, 0, -10, 7_000_000), "EPSG:32621")
    turned = shapely.transform(
        shapely.Polygon([(10, 4), (14, 12), (10, 20), (6, 12)]), lambda c: [600_000, 7_000_000] + c * [10, -10]
    )
    found = KIND.of_features([(turned, 1), (shapely.Polygon(), 0)], geobox)
    assert rows(boxes_of(found)) == [(1, 0, 4, 6, 20, 14)]
    assert found[INDEX, 60, 60] == IGNORE
    assert KIND.of_features([], geobox, 0.0)[INDEX].max() == 0


def source(folder: Path, **changes: Any) -> Any:
    """The recipe of the files in a folder."""
    value = {
        "name": "made", "task": "detection", "model": {"architecture": "centre"}, "bands": ["red", "nir"], "gsd": 10,
        "classes": [c.model_dump() for c in CLASSES], "split": {"kind": "files"},
        "source": {
            "kind": "boxes", "root": str(folder), "images": "{id}.tif", "boxes": "{id}.geojson", "field": "name",
            "coordinates": "pixels", "file_bands": ["red", "nir"], **changes,
        },
    }  # fmt: skip
    return tasks.find("detection").recipe.model_validate(value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene ``a`` with boxes in pixels, and one ``b`` without a file of boxes."""
    image, boxes = rectangles((64, 64), 6, seed=1, sides=(6, 16))
    assert len(boxes) >= 4
    for name, column in (("a", 0), ("b", 1)):
        transform = Affine(10, 0, 600_000 + 5000 * column, 0, -10, 7_000_000)
        testing.write_cog(tmp_path / f"{name}.tif", image, crs="EPSG:32621", transform=transform, nodata=0)
    write_boxes(tmp_path / "a.geojson", boxes)
    return tmp_path


def expected() -> list[tuple[float, ...]]:
    boxes = rectangles((64, 64), 6, seed=1, sides=(6, 16))[1]
    return rows(np.column_stack([boxes[:, 0], 0 * boxes[:, 0], boxes[:, 1:]]).astype(float))


def test_a_source_reads_boxes_in_pixels_and_what_no_file_means(folder: Path) -> None:
    with pytest.raises(DataError, match=r"b\.geojson: missing; set source.no_file"):
        scenes(source(folder))
    one, other = scenes(source(folder, no_file="empty"))
    assert rows(boxes_of(one.read().target)) == expected()
    assert KIND.labelled(one.read().target, (64, 64)).all()
    assert len(boxes_of(other.read().target)) == 0


@pytest.mark.parametrize("end", ["geojson", "parquet", "gpkg"])
def test_boxes_in_a_crs_land_on_their_pixels(folder: Path, end: str) -> None:
    frame = geopandas.read_file(folder / "a.geojson").drop(columns="geometry")
    boxes = rectangles((64, 64), 6, seed=1, sides=(6, 16))[1]
    with rasterio.open(folder / "a.tif") as file:
        corners = [(*(file.transform * (b[2], b[1])), *(file.transform * (b[4], b[3]))) for b in boxes.tolist()]
    geometry = [shapely.box(x0, y1, x1, y0) for x0, y0, x1, y1 in corners]
    frame = geopandas.GeoDataFrame(frame, geometry=geometry, crs="EPSG:32621")
    if end == "parquet":
        frame.to_parquet(folder / "a.parquet")
    elif end == "gpkg":
        frame.to_file(folder / "a.gpkg")
    else:
        frame.to_file(folder / "a.geojson", driver="GeoJSON")  # with its CRS, as GDAL writes it
    one, _ = scenes(source(folder, no_file="empty", coordinates="crs", boxes=f"{{id}}.{end}"))
    found = boxes_of(one.read().target)
    np.testing.assert_allclose(rows(found), expected(), atol=1e-2)


def test_what_a_recipe_does_not_explain_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a\.geojson: no field 'nane'; it has \['name'\]"):
        scenes(source(folder, no_file="empty", field="nane"))
    value = json.loads((folder / "a.geojson").read_text())
    value["features"][0]["properties"]["name"] = "boat"
    (folder / "a.geojson").write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"a\.geojson: feature 0: .*'boat'.*no class .*'field', 'roof'"):
        scenes(source(folder, no_file="empty"))
    (folder / "a.geojson").write_text("no vectors")
    with pytest.raises(DataError, match="cannot be read as vectors"):
        scenes(source(folder, no_file="empty"))


def oriented_scene() -> tuple[BoxTarget, NDArray[np.number], NDArray[np.float64]]:
    """A target of four oriented boxes, and what they are: class, 0, edges and angle."""
    kind = BoxTarget(
        (ClassInfo(value=0, name="a", color="#102030"), ClassInfo(value=1, name="b", color="#203040")), True
    )
    boxes = np.array(
        [[0, 20, 14, 28, 44, 0.4], [1, 40, 50, 52, 80, -1.2], [0, 70, 8, 76, 30, 1.5], [1, 10, 70, 30, 92, 0.0]], float
    )
    polygons = outlines(boxes[:, 1:])
    shape = GeoBox((96, 96), Affine.identity(), "EPSG:3857")
    target = kind.of_features([(p, b[0]) for p, b in zip(polygons, boxes, strict=True)], shape, 0)
    return kind, target, boxes


def same_outlines(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> None:
    """Each box has its like, whichever of its sides is called the top."""
    assert len(found) == len(wanted)
    for index, *sides in wanted.tolist():
        mine = found[found[:, 0] == index][:, 2:]
        share = iou(mine, np.repeat([sides], len(mine), 0))
        assert share.max() > 0.999


def test_oriented_boxes_are_read_from_polygons() -> None:
    kind, target, boxes = oriented_scene()
    assert target.shape == (7, 96, 96)
    same_outlines(boxes_of(target), boxes)
    assert kind.counted(target).tolist() == [2, 2]


@pytest.mark.parametrize("k", range(8))
def test_oriented_boxes_turn_with_the_image(k: int) -> None:
    """The oracle turns the polygons themselves."""
    kind, target, boxes = oriented_scene()

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        for _ in range(k % 4):  # a quarter turn against the clock: what was on the right is on top
            x, y = y, 96 - x
        return np.column_stack([96 - x if k >= 4 else x, y])

    moved = shapely.transform(outlines(boxes[:, 1:]), move)
    same_outlines(boxes_of(kind.turned(target, k, 96)), np.column_stack([boxes[:, 0], smallest(moved)]))


def test_an_oriented_box_that_shows_too_little_of_itself_is_unknown() -> None:
    kind, target, _ = oriented_scene()
    crop = kind.cut(target, Window(0, 0, 96, 60), Window(0, 0, 96, 96))  # the second one reaches from about 57 to 73
    assert len(boxes_of(crop)) == 2
    assert bool((crop[INDEX, 40:52, 58:] == IGNORE).any())
