"""Validation pieces turned by an angle of their own."""

from __future__ import annotations

import numpy as np
from odc.geo.geobox import GeoBox

from geoml.data.rotated_pieces import rotated
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.targets.boxes import BoxTarget, boxes_of
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.objects.centre_heat import render

KIND = BoxTarget((ClassInfo(value=1, name="roof", color="#102030"),))
BOXES = np.array([[0, 20, 34, 28, 60], [0, 3, 31, 12, 39], [0, 50, 2, 60, 20]], float)
PIECE = Window(0, 30, 40, 97)
"""It holds the first two boxes, and sides of an odd and of an even length."""


def pieces(count: int) -> list[Piece]:
    """Scenes whose two bands are x and y of each pixel on the ground."""
    geobox = GeoBox.from_bbox((500_000, 0, 501_000, 700), "EPSG:32631", resolution=10)
    height, width = geobox.shape
    y, x = np.mgrid[:height, :width] + 0.5
    ground = np.stack(geobox.affine * (x, y)).astype(np.float32)
    made = Sample(ground, np.ones((height, width), np.bool_), render(BOXES, (height, width)))
    return [Piece(LabelledScene(f"s{k}", (height, width), lambda: made, geobox), PIECE, "val") for k in range(count)]


def test_every_piece_has_an_angle_of_its_own_and_loses_nothing() -> None:
    found = rotated(pieces(12), KIND, 90)
    assert len({p.scene.id for p in found}) == 12
    angles = sorted(float(p.scene.id.rpartition("@")[2]) for p in found)
    assert angles[0] < -60
    assert angles[-1] > 60
    assert max(np.diff(angles)) < 40
    for piece in found:
        assert piece.split == "val"
        sample = piece.scene.read()
        assert sample.valid.shape == piece.scene.shape == piece.window.shape
        boxes = boxes_of(sample.target)
        assert (boxes[:, 1] == 0).all()
        assert len(boxes) == 2
        ground = PIECE.shape[0] * PIECE.shape[1]
        rim = 2 * sum(PIECE.shape)  # half a pixel of it has a neighbour outside
        assert ground - rim < sample.valid.sum() <= ground


def test_the_georeference_turns_along() -> None:
    for piece in rotated(pieces(3), KIND, 180):
        sample, geobox = piece.scene.read(), piece.scene.geobox
        assert geobox is not None
        y, x = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
        expected = np.stack(geobox.affine * (x, y))
        np.testing.assert_allclose(sample.image[:, sample.valid], expected[:, sample.valid], atol=0.1)


def test_no_angle_shows_the_piece_as_it_is() -> None:
    (piece,) = rotated(pieces(1), KIND, 0)
    sample = piece.scene.read()
    boxes = boxes_of(sample.target)
    rows, cols = np.nonzero(sample.valid)
    assert (rows.max() - rows.min() + 1, cols.max() - cols.min() + 1) == PIECE.shape
    off = np.array([rows.min() - PIECE.y0, cols.min() - PIECE.x0] * 2)
    moved = BOXES[:2, 1:] + off
    assert sorted(map(tuple, boxes[:, 2:].round(3).tolist())) == sorted(map(tuple, moved.tolist()))
