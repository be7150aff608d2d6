"""Outlines as a target: which pixels they hold, what crops, turns and gaps make of them, how a source reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml import testing
from geoml.data.prepare import scenes
from geoml.data.rotation import Rotation
from geoml.data.target import d4
from geoml.data.targets.boxes import BoxTarget, boxes_of, outlines_of
from geoml.engine import task as tasks
from geoml.errors import DataError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import CHANNELS, INDEX, NUMBER, OUTLINE
from geoml.testing.objects import FORMS, forms, write_outlines

CLASSES = tuple(ClassInfo(value=k, name=n, color="#102030") for k, n in enumerate(FORMS))
KIND, BARE = BoxTarget(CLASSES, masks=True), BoxTarget(CLASSES)
PLANE = GeoBox((96, 96), Affine.identity(), "EPSG:3857")
WHOLE = Window(0, 0, 96, 96)
THINGS = forms((96, 96), 7, seed=4)[1]


def target(elsewhere: float | None = 0) -> NDArray[np.number]:
    return KIND.of_features([(shape, index) for index, shape in THINGS], PLANE, elsewhere)


def shapes_of(found: NDArray[np.number]) -> dict[tuple[float, ...], NDArray[np.bool_]]:
    """(y, x) of the pixels in the outline of each box: index, 0, top, left, bottom, right."""
    outlines = outlines_of(found)
    rows = [tuple(row) for row in boxes_of(found).round(2).tolist()]
    return {row: outlines.inside == number for row, number in zip(rows, outlines.numbers.tolist(), strict=True)}


def test_an_outline_holds_the_pixels_whose_middle_lies_in_it() -> None:
    found = target()
    assert (found[:CHANNELS] == BARE.of_features([(s, k) for k, s in THINGS], PLANE, 0)).all()
    shapes = shapes_of(found)
    assert len(shapes) == len(THINGS) > 4
    for index, shape in THINGS:
        left, top, right, bottom = np.round(shape.bounds, 2).tolist()
        (mine,) = (v for k, v in shapes.items() if np.allclose(k, (index, 0, top, left, bottom, right), atol=0.02))
        y, x = np.mgrid[:96, :96] + 0.5
        assert (mine == shapely.contains_xy(shape, x, y)).all()


def test_of_two_outlines_around_a_pixel_the_smaller_has_it() -> None:
    large, small = shapely.box(10, 10, 50, 50), shapely.box(20, 12, 30, 22)
    found = KIND.of_features([(small, 0), (large, 1)], PLANE, 0)
    outlines = outlines_of(found)
    sizes = [int((outlines.inside == number).sum()) for number in outlines.numbers]
    assert sorted(sizes) == [100, 1500]


def test_crops_cut_outlines_and_their_boxes_keep_their_numbers() -> None:
    for window in (Window(10, 20, 80, 90), Window(-10, -30, 50, 40), Window(40, 0, 104, 64)):
        crop, inside = KIND.cut(target(), window, WHOLE), window.intersect(WHOLE)
        whole = shapes_of(target())
        kept = {k: v for k, v in shapes_of(crop).items() if k[1] == 0}
        assert kept
        for (index, _, top, left, bottom, right), mine in kept.items():
            key = (index, 0, top + window.y0, left + window.x0, bottom + window.y0, right + window.x0)
            (full,) = (v for k, v in whole.items() if np.allclose(k, key, atol=0.02))
            assert (mine[inside.slices(window)] == full[inside.slices(WHOLE)]).all()


@pytest.mark.parametrize("k", range(8))
def test_outlines_turn_with_the_image(k: int) -> None:
    turned = shapes_of(KIND.turned(target(), k, 96))
    expected = [d4(mine, k) for mine in shapes_of(target()).values()]
    assert len(turned) == len(expected)
    for mine in turned.values():
        assert any((mine == other).all() for other in expected)


def test_outlines_turn_by_any_angle_with_their_numbers() -> None:
    """The oracle turns polygons by shapely: the pixels that an outline holds then are those of the turned label."""
    rotation = Rotation(64, angle=0.6, scale=1.2)
    side = rotation.size + 2 * rotation.margin
    crop = KIND.cut(target(), Window(0, 0, side, side), WHOLE)
    outlines = outlines_of(KIND.rotated(crop, rotation))
    y, x = np.mgrid[:64, :64] + 0.5
    there = np.unique(outlines.inside[outlines.inside > 0])
    assert len(there) > 2
    assert set(outlines.numbers) <= set(there)
    for number in there.tolist():
        _, shape = THINGS[number - 1]
        expected = shapely.contains_xy(shapely.transform(shape, rotation.points), x, y)
        wrong = expected ^ (outlines.inside == number)
        assert wrong.sum() < 0.1 * expected.sum() + 4, "pixels on the rim are those of the nearest one"


def test_outlines_outlive_that_ground_beside_them_is_filled_or_unknown() -> None:
    unknown = target(None)
    assert (unknown[INDEX] == IGNORE).any()
    filled = KIND.filled(unknown, 0)
    assert (filled[OUTLINE] == target()[OUTLINE]).all()
    assert (filled == target()).all()
    hidden = KIND.only(target(), np.zeros((96, 96), bool))
    assert (hidden[INDEX] == IGNORE).all()
    assert (hidden[NUMBER:] == target()[NUMBER:]).all()
    assert KIND.of_features([], PLANE, 0).shape == (8, 96, 96)


def recipe(folder: Path, masks: bool = True, **source: Any) -> Any:
    value = {
        "name": "made", "task": "detection", "bands": ["red", "nir"], "gsd": 10, "split": {"kind": "files"},
        "model": {"architecture": "faster_rcnn", "config": {"masks": masks}},
        "classes": [c.model_dump() for c in CLASSES],
        "source": {
            "kind": "boxes", "root": str(folder), "images": "{id}.tif", "boxes": "{id}.geojson", "field": "name",
            "coordinates": "pixels", "file_bands": ["red", "nir"], **source,
        },
    }  # fmt: skip
    return tasks.find("detection").recipe.model_validate(value)


def test_a_source_reads_outlines_for_a_model_with_masks_alone(tmp_path: Path) -> None:
    image, things = forms((96, 96), 7, seed=4)
    testing.write_cog(tmp_path / "a.tif", image, crs="EPSG:32621", transform=Affine(10, 0, 6e5, 0, -10, 7e6), nodata=0)
    write_outlines(tmp_path / "a.geojson", things)
    (scene,) = scenes(recipe(tmp_path))
    burnt = rasterio.features.rasterize([shape for _, shape in things], out_shape=(96, 96))
    assert ((scene.read().target[OUTLINE] > 0) == burnt.astype(bool)).all()
    (scene,) = scenes(recipe(tmp_path, masks=False))
    assert scene.read().target.shape == (CHANNELS, 96, 96)


def test_boxes_and_points_are_no_outlines_to_learn(tmp_path: Path) -> None:
    image, _ = forms((96, 96), 7, seed=4)
    testing.write_cog(tmp_path / "a.tif", image, crs="EPSG:32621", transform=Affine(10, 0, 6e5, 0, -10, 7e6), nodata=0)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.2 0.2 0.1 0.1\n")
    yolo = {"format": "yolo", "coordinates": "relative", "boxes": "{id}.txt", "values": {"0": 0, "1": 1}, "field": None}
    said = r"2 of 2 objects have no outline, the first is .*a\.txt: line 1: expected polygons"
    with pytest.raises(DataError, match=said):
        scenes(recipe(tmp_path, **yolo))
    assert len(scenes(recipe(tmp_path, masks=False, **yolo))) == 1
    point = '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "disc"}, "geometry":'
    (tmp_path / "a.geojson").write_text(point + '{"type": "Point", "coordinates": [40, 40]}}]}')
    with pytest.raises(DataError, match="1 of 1 objects have no outline"):
        scenes(recipe(tmp_path, radius=100))
