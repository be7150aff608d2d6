"""Annotations on their image: pixel edges as the recipe declares them, and everything that contradicts it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.data.annotation import SHIFTS, Annotation, Coordinates, Corners

if TYPE_CHECKING:
    from pathlib import Path

    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

ROUNDED = 0.01
"""Pixels that a box may reach out of its image: what rounding of shares of it makes."""
FACTOR = 2.0
"""Between the pixels of an image and the gsd of the recipe from which on the image is not what is meant."""
DEGREE = 111_320.0
"""Metres."""
FEW = 3
"""Boxes that make no pattern."""
FULL = 0.8
"""Share of its upright box that a rotated one fills at most to be called so."""

Sides = NDArray[np.float64]
"""(n, 4) left, top, right, bottom."""
Outside = Literal["error", "clip"]
"""What it means that a box reaches out of its image."""


class Conventions(Protocol):
    """What a recipe declares of its boxes."""

    @property
    def coordinates(self) -> Coordinates: ...
    @property
    def corners(self) -> Corners | None: ...
    @property
    def radius(self) -> float | None: ...
    @property
    def outside(self) -> Outside: ...


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image that is labelled: its file, shape (y, x), place, and metres of a pixel where it has none."""

    path: Path
    shape: tuple[int, int]
    geobox: GeoBox | None
    gsd: float

    @property
    def pixel(self) -> float:
        """Metres of a pixel, in the units of the CRS; degrees as at the latitude of the image."""
        if self.geobox is None:
            return self.gsd
        size = math.sqrt(abs(self.geobox.affine.determinant))
        if self.geographic:
            lat = self.geobox.affine.f + self.geobox.affine.e * self.shape[0] / 2
            size *= DEGREE * math.sqrt(max(math.cos(math.radians(min(abs(lat), 89.0))), 0.0))
        return size

    @property
    def geographic(self) -> bool:
        """Whether its coordinates are degrees."""
        return self.geobox is not None and self.geobox.crs is not None and bool(self.geobox.crs.geographic)


@dataclass(slots=True)
class Report:
    """What is found in all images together."""

    problems: list[str] = field(default_factory=list)
    outside: Counter[Corners] = field(default_factory=Counter)
    """Boxes that would reach out of their image under each meaning of their corners."""
    corners: int = 0
    """Boxes of corners."""
    rotated: list[float] = field(default_factory=list)
    """Areas of upright boxes relative to those of the rotated ones in them, where the format says that they are."""
    turned: list[float] = field(default_factory=list)
    """The same of outlines that are rotated rectangles."""
    objects: int = 0
    touching: Counter[str] = field(default_factory=Counter)
    """Sides of corners that are 0, 1, the number of pixels along the side, and one less."""

    def hint(self, declared: Corners | None) -> str | None:
        """The meaning of corners under which all boxes would lie in their images, where the declared one does not."""
        if declared is None or not self.outside[declared]:
            return None
        fits = [name for name in SHIFTS if not self.outside[name]]
        if not fits:
            return None
        inside = f"all {self.corners} boxes lie in their images with {' or '.join(fits)}"
        return f"source.corners: {declared} does not fit, {inside}"

    def doubt(self) -> str | None:
        """Why edges may be pixels after all, where many boxes touch the border that edges would not stop short of."""
        at = self.touching
        if at["1"] >= FEW and not at["0"] and at["full"]:
            return "edges are declared, but no number is 0 and many are 1; pixels_from_1? Look at labels.png"
        if at["last"] >= FEW and not at["full"] and at["0"]:
            return (
                "edges are declared, but many boxes end a pixel before the last edge; pixels_from_0? Look at labels.png"
            )
        return None


def on_image(
    objects: Sequence[Annotation],
    picture: LabelledImage,
    crs: str | None,
    declared: Conventions,
    file: Path,
    report: Report,
) -> list[BaseGeometry | None]:
    """The geometry of each object in pixels of the image, whole numbers being their edges; None if it has none.

    What is wrong with any goes to the ``report``, by file and line.
    """
    report.objects += len(objects)
    if not objects:
        return []
    raw = np.array([o.sides for o in objects], np.float64).reshape(-1, 4)
    outlines = np.array([o.outline for o in objects], object)
    finite, flat = np.isfinite(raw).all(1), shapely.get_type_id(outlines)
    points = np.isin(flat, (0, 4))
    fault = np.full(len(objects), "", object)
    fault[~finite] = "its box is not finite"
    box = flat == -1
    fault[finite & box & ((raw[:, 2] < raw[:, 0]) | (raw[:, 3] < raw[:, 1]))] = "its box is inverted"
    wrong = _unit(raw[finite & ~points], declared, picture)
    if wrong:
        report.problems.append(f"{file}: {wrong}")
        return [None] * len(objects)
    if points.any() and (why := _no_discs(picture, declared)):
        report.problems.append(f"{file}: {why}")
        return [None] * len(objects)
    shapes = _in_pixels(raw, outlines, points, picture, crs, declared)
    sides = shapely.bounds(shapes)
    size = sides[:, 2:] - sides[:, :2]
    fault[(fault == "") & (size <= 0).any(1)] = "its box has no size"
    fault[(fault == "") & ~np.isfinite(sides).all(1)] = "its box is not finite"
    sound = fault == ""
    if declared.coordinates == "crs":
        if not shapely.intersects(shapes[sound], shapely.box(0, 0, *picture.shape[::-1])).any():
            fault[sound] = f"labels of another image, none of them touches {picture.path.name}"
    elif declared.outside == "clip":
        shapes[sound] = shapely.clip_by_rect(shapes[sound], 0, 0, picture.shape[1], picture.shape[0])
        fault[sound & shapely.is_empty(shapes)] = "its box is outside the image"
    else:
        _outside(sides, sound, box, picture, declared, fault, report)
    for k in np.flatnonzero(fault != "").tolist():
        report.problems.append(f"{file}: {objects[k].where}: {fault[k]} ({_said(raw[k])})")
    _note_rotated(objects, shapes, sides, sound & ~points & ~box, report)
    return [shape if fault[k] == "" else None for k, shape in enumerate(shapes)]


def gsd_problems(pictures: Iterable[LabelledImage], gsd: float) -> list[str]:
    """Where pixels of images are not those of the recipe."""
    off = [p for p in pictures if p.geobox is not None and not 1 / FACTOR < p.pixel / gsd < FACTOR]
    more = f" and {len(off) - 1} more" if len(off) > 1 else ""
    return [f"{off[0].path}{more}: pixels of {off[0].pixel:.3g} m; the recipe says gsd: {gsd:g}"] if off else []


def _unit(raw: Sides, declared: Conventions, picture: LabelledImage) -> str | None:
    """What is wrong with the unit of all numbers of a file."""
    if not len(raw) or declared.coordinates == "crs":
        return None
    largest = float(np.abs(raw).max())
    if declared.coordinates == "relative":
        return (
            f"numbers up to {largest:g} where shares of the image, 0 to 1, are expected; pixels?"
            if largest > 2
            else None
        )
    if largest <= 1 < min(picture.shape):
        return "no number is above 1 where pixels are expected; are they shares of the image (coordinates: relative)?"
    return None


def _no_discs(picture: LabelledImage, declared: Conventions) -> str | None:
    if declared.radius is None:
        return "points without a size; set source.radius in metres"
    if picture.geographic:
        return f"a radius in metres, but {picture.path} is in degrees; expected an image in a projected CRS"
    return None


def _in_pixels(
    raw: Sides,
    outlines: NDArray[np.object_],
    points: NDArray[np.bool_],
    picture: LabelledImage,
    crs: str | None,
    declared: Conventions,
) -> NDArray[np.object_]:
    height, width = picture.shape
    shapes = outlines.copy()
    boxes = shapely.is_missing(outlines)
    scale = np.array([width, height] if declared.coordinates == "relative" else [1, 1], float)
    first, last = SHIFTS[declared.corners or "edges"]
    left, top, right, bottom = (raw[boxes] * np.tile(scale, 2) + [first, first, last, last]).T
    shapes[boxes] = shapely.box(left, top, right, bottom)
    if declared.coordinates == "relative":
        shapes[~boxes] = shapely.transform(outlines[~boxes], lambda xy: xy * scale)
    elif declared.coordinates == "crs":
        shapes = _moved(outlines, picture, crs)
    if points.any() and declared.radius is not None:
        reach = declared.radius / picture.pixel
        x0, y0, x1, y1 = shapely.bounds(shapes[points]).T
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        shapes[points] = shapely.box(x - reach, y - reach, x + reach, y + reach)
    return shapes


def _moved(shapes: NDArray[np.object_], picture: LabelledImage, crs: str | None) -> NDArray[np.object_]:
    """Geometries of a CRS in pixels of a placed image."""
    assert picture.geobox is not None
    a = ~picture.geobox.affine

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = xy.T
        return np.column_stack([a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f])

    there = gpd.GeoSeries(shapes, crs=crs).to_crs(str(picture.geobox.crs)).to_numpy()
    moved: NDArray[np.object_] = shapely.transform(there, move)
    return moved


def _outside(
    sides: Sides,
    sound: NDArray[np.bool_],
    box: NDArray[np.bool_],
    picture: LabelledImage,
    declared: Conventions,
    fault: NDArray[np.object_],
    report: Report,
) -> None:
    """Boxes that reach out of the image; in a CRS those are parts of a larger map."""
    edges = np.array([[0, 0], picture.shape[::-1]], float)

    def out(of: Sides, room: float = 0.0) -> NDArray[np.bool_]:
        low, high = edges + np.array([[-room], [room]])
        found: NDArray[np.bool_] = ((of[:, :2] < low - ROUNDED) | (of[:, 2:] > high + ROUNDED)).any(1)
        return found

    # points are marked where they are, their discs may be cut by the edge
    reach = declared.radius / picture.pixel if declared.radius is not None else 0.0
    fault[sound & out(sides, reach)] = (
        f"its box reaches out of the image of {picture.shape[1]} x {picture.shape[0]} pixels"
    )
    if declared.corners is not None:
        first, last = SHIFTS[declared.corners]
        bare = sides[sound & box] - np.array([first, first, last, last])
        report.corners += len(bare)
        low, high = bare[:, :2], bare[:, 2:] - edges[1]
        marks = {"0": low == 0, "1": low == 1, "full": high == 0, "last": high == -1}
        report.touching.update({name: int(mask.sum()) for name, mask in marks.items()})
        for name, (a, b) in SHIFTS.items():
            report.outside[name] += int(out(bare + np.array([a, a, b, b])).sum())


def _note_rotated(
    objects: Sequence[Annotation],
    shapes: NDArray[np.object_],
    sides: Sides,
    drawn: NDArray[np.bool_],
    report: Report,
) -> None:
    said = np.array([o.rotated for o in objects])
    four = drawn & (shapely.get_type_id(shapes) == 3) & (shapely.get_num_coordinates(shapes) == 5)
    upright = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    area = shapely.area(shapes)
    turned = four & (area > 0) & (area < FULL * upright)
    for k in np.flatnonzero(said):
        report.rotated.append(float(upright[k] / area[k]) if turned[k] else 1.0)
    report.turned += (upright[turned & ~said] / area[turned & ~said]).tolist()


def _said(numbers: NDArray[np.float64]) -> str:
    return ", ".join(f"{v:.10g}" for v in numbers)
