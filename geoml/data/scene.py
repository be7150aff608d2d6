"""A scene: an image with labels on one pixel grid, read when needed; a piece: a window of it, in one split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from geoml.data.target import Labels, Target
from geoml.grid.plane import Window


@dataclass(frozen=True, slots=True)
class Sample:
    """Image (C,H,W) of physical values, 0 where not valid; valid (H,W) bool; target as the recipe's `Target` has it.

    Where ``valid`` is False the target is unknown: a pixel without data teaches nothing and is not scored.
    """

    image: NDArray[np.number]
    valid: NDArray[np.bool_]
    target: Labels

    @classmethod
    def of(cls, image: NDArray[np.number], valid: NDArray[np.bool_], target: Labels, kind: Target) -> Sample:
        """The sample with values and labels erased where there is no data."""
        return cls(np.where(valid, image, image.dtype.type(0)), valid, kind.only(target, valid))

    @property
    def nbytes(self) -> int:
        return int(self.image.nbytes + self.valid.nbytes + self.target.nbytes)


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """One image with labels. ``read`` gives the whole of it; ``geobox`` is None if there is no georeference."""

    id: str
    shape: tuple[int, int]
    read: Callable[[], Sample]
    geobox: GeoBox | None = None
    split: str | None = None
    """Set by sources whose labels decide the split."""
    members: tuple[str, ...] = ()
    """Ids by which split lists may name the scene beside its own: images of several dates of one place."""
    units: tuple[str | None, ...] = ()
    """Of the values of each band of one date, where the source knows them."""
    months: tuple[int, ...] = ()
    platforms: tuple[str, ...] = ()
    """Of its images, where they say it."""

    @property
    def window(self) -> Window:
        return Window(0, 0, *self.shape)


@dataclass(frozen=True, eq=False)
class Piece:
    """A window (of the scene's own pixels) that belongs to one split."""

    scene: LabelledScene
    window: Window
    split: str

    @property
    def name(self) -> str:
        w = self.window
        return self.scene.id if w == self.scene.window else f"{self.scene.id}[{w.y0}:{w.y1},{w.x0}:{w.x1}]"

    @property
    def footprint(self) -> BaseGeometry | None:
        """Longitude/latitude outline, or None."""
        return None if self.scene.geobox is None else outline(self.scene.geobox, self.window)


def outline(geobox: GeoBox, window: Window) -> BaseGeometry:
    """The window of a geobox as a longitude/latitude polygon, its edges densified so that they bend with the CRS."""
    a = geobox.affine
    edge = max(*window.shape, 1) / 8
    ring = shapely.segmentize(shapely.box(window.x0, window.y0, window.x1, window.y1), edge)
    to = pyproj.Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        return np.stack(to.transform(a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f), 1)

    return shapely.transform(ring, move)


def fingerprint(sample: Sample) -> str | None:
    """Hash of the valid pixels; None for a sample without any. Finds copies among files without georeference."""
    if not sample.valid.any():
        return None
    image = np.ascontiguousarray(sample.image)
    return hashlib.sha256(f"{image.shape}{image.dtype}".encode() + image.tobytes()).hexdigest()


def overlap(a: BaseGeometry, b: BaseGeometry) -> float:
    """Shared area relative to the smaller of the two, 0..1."""
    smaller = min(a.area, b.area)
    return float(shapely.intersection(a, b).area / smaller) if smaller > 0 else 0.0
