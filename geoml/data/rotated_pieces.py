"""Validation pieces, each turned by an angle of its own: what is chosen by them is chosen for things at any heading.

The angles are those of the golden ratio, so that any number of pieces is spread over the whole range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from affine import Affine
from odc.geo.geobox import GeoBox

from geoml.data.augment import rotate
from geoml.data.chips import cut
from geoml.data.rotation import Rotation
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.target import Target
from geoml.grid.plane import Window

GOLDEN = (5**0.5 - 1) / 2


def rotated(pieces: Sequence[Piece], kind: Target, most: float) -> list[Piece]:
    """Pieces that show all of the given ones turned by up to ``most`` degrees to either side; the corners are no data.

    Each is held in memory as a whole when it is read.
    """
    return [_rotated(piece, kind, most * (2 * ((n + 1) * GOLDEN % 1) - 1)) for n, piece in enumerate(pieces)]


def _rotated(piece: Piece, kind: Target, degrees: float) -> Piece:
    w, angle = piece.window, math.radians(degrees)
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    (height, width), slack = w.shape, 1  # the middle of the window may lie between two pixels
    size = math.ceil(max(height * cos + width * sin, width * cos + height * sin)) + 2 * slack
    rotation = Rotation(size, angle)
    y, x = (w.y0 + w.y1 - size) // 2, (w.x0 + w.x1 - size) // 2
    larger = Window(y, x, y + size, x + size).expand(rotation.margin)
    scene = replace(
        piece.scene,
        id=f"{piece.name}@{degrees:.1f}",
        shape=(size, size),
        read=partial(_read, piece, kind, larger, rotation),
        geobox=_geobox(piece.scene, larger, rotation),
    )
    return Piece(scene, scene.window, piece.split)


def _read(piece: Piece, kind: Target, larger: Window, rotation: Rotation) -> Sample:
    return rotate(cut(piece.scene.read(), larger, piece.window, kind), kind, rotation)


def _geobox(scene: LabelledScene, larger: Window, rotation: Rotation) -> GeoBox | None:
    if scene.geobox is None:
        return None
    half, middle = rotation.size / 2, larger.shape[0] / 2
    back = Affine.rotation(-math.degrees(rotation.angle)) * Affine.translation(-half, -half)
    there = Affine.translation(larger.x0 + middle, larger.y0 + middle) * back
    return GeoBox((rotation.size, rotation.size), scene.geobox.affine * there, scene.geobox.crs)
