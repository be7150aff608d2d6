"""Where the pixels of a cube lie, north up and between 180° west and 180° east, whichever way the file stores them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from geoml.errors import DataError, InputError
from geoml.io.crs import FULL_TURN, crs_name, horizontal, on_earth, parse_crs, pixel_offset
from geoml.io.cubes.spec import Corner, Position

MAX_PIXELS = 2**31
"""Of one frame."""

SAME = 1e-3
"""Pixels that grids of one cube may lie apart."""

NEAR = 0.5
"""Pixels that declared corners may lie off."""

_AXES = re.compile(r"\+(a|b|R)=([0-9.]+)")


@dataclass(frozen=True)
class CubeGrid:
    """``geobox`` is north up; the file stores row 0 in the south where ``flipped``, and its column 0 ``turned`` columns
    from the right edge of the geobox's first one: a window of the geobox is one or two of the file."""

    geobox: GeoBox
    flipped: bool = False
    turned: int = 0

    def stored_rows(self, rows: slice) -> slice:
        """Rows of the file, to be reversed where ``flipped``, for rows of the geobox."""
        height = self.geobox.shape[0]
        return slice(height - rows.stop, height - rows.start) if self.flipped else rows

    def stored_columns(self, columns: slice) -> list[slice]:
        """Columns of the file, from left to right, for columns of the geobox."""
        width = self.geobox.shape[1]
        start, stop = columns.start + self.turned, columns.stop + self.turned
        if start >= width:
            return [slice(start - width, stop - width)]
        return [slice(start, stop)] if stop <= width else [slice(start, width), slice(0, stop - width)]


def grid(transform: Affine, crs: str | None, shape: tuple[int, int]) -> CubeGrid:
    """The grid of a file with this transform. Raises DataError for one that is turned, or nowhere on the Earth."""
    height, width = shape
    if not (0 < height * width <= MAX_PIXELS):
        raise DataError(f"declares {width} x {height} pixels; expected 1 to {MAX_PIXELS}")
    known = parse_crs(crs) if crs else None
    if known is None:
        raise DataError("position.crs: the file has no known CRS; expected one in the YAML")
    name = crs_name(horizontal(known))
    if not all(map(math.isfinite, tuple(transform)[:6])) or transform.is_degenerate or transform == Affine.identity():
        raise DataError("position.pixel: the file does not place its pixels; expected it in the YAML")
    turn = max(abs(transform.b) * height / abs(transform.a or 1), abs(transform.d) * width / abs(transform.e or 1))
    if transform.a <= 0 or turn > SAME:
        raise DataError(f"turned or mirrored: {tuple(transform)[:6]}; expected rows from west to east")
    flipped = transform.e > 0
    top = transform.f + transform.e * height if flipped else transform.f
    left, turned = _wrapped(transform.c, transform.a, width) if known.is_geographic else (transform.c, 0)
    box = GeoBox(shape, Affine(transform.a, 0, left, 0, -abs(transform.e), top), name)
    if not on_earth(box):
        raise DataError(f"its position is nowhere on the Earth: {left:.8g}, {top:.8g} of {known.name}")
    return CubeGrid(box, flipped, turned)


def _wrapped(left: float, pixel: float, width: int) -> tuple[float, int]:
    """The left edge between -180 and 180 degrees, and which column of the file begins there."""
    half, centre = FULL_TURN / 2, left + pixel / 2
    if centre >= -half - 1e-6 and centre + (width - 1) * pixel <= half + 1e-6:
        return left, 0
    if abs(width * pixel - FULL_TURN) < pixel / 2:
        lon = (centre + np.arange(width) * pixel + half + 1e-6) % FULL_TURN - half - 1e-6
        first = int(np.argmin(lon))
        return float(lon[first]) - pixel / 2, first
    if width * pixel > FULL_TURN:
        raise DataError(f"{width} columns of {pixel:g} degrees go round the Earth more than once")
    return left - FULL_TURN * math.floor((left + width * pixel / 2) / FULL_TURN + 0.5), 0


def from_position(
    position: Position, tags: Mapping[str, str], transform: Affine, crs: str | None, shape: tuple[int, int]
) -> CubeGrid:
    """The grid of a file, by the spec where it says something. Raises DataError as `grid`, and for lost attributes."""
    metres = 1000.0 if position.unit == "km" else 1.0
    if position.crs is not None:
        text = tags.get(position.crs, position.crs)
        crs = _AXES.sub(lambda m: f"+{m[1]}={float(m[2]) * metres:.10g}", text) if metres != 1 else text
    if position.pixel is not None:
        dx, dy = (n * metres for n in _numbers(position.pixel, tags))
        if position.origin is not None:
            x, y = (n * metres for n in _numbers(position.origin, tags))
        else:
            columns, rows = _numbers(position.offset or (0, 0), tags)
            x, y = columns * dx, rows * dy
        transform = Affine(dx, 0, x, 0, dy, y)
    made = grid(transform, crs, shape)
    if position.corners is not None:
        _check_corners(made.geobox, _corners(position.corners, tags))
    if position.extent is not None:
        _check_extent(made.geobox, position.extent)
    return made


def _numbers(pair: Corner, tags: Mapping[str, str]) -> tuple[float, float]:
    values = []
    for part in pair:
        text = tags.get(part) if isinstance(part, str) else part
        if text is None:
            raise DataError(f"attribute {part} does not exist; position needs it")
        try:
            values.append(float(str(text).strip("{}[] ")))
        except ValueError as err:
            raise DataError(f"attribute {part} is {text!r}; expected a number") from err
    return values[0], values[1]


def _corners(name: str, tags: Mapping[str, str]) -> NDArray[np.float64]:
    """(4, 2) longitudes and latitudes."""
    try:
        return np.array([float(n) for n in tags[name].strip("{}[] ").replace(",", " ").split()]).reshape(4, 2)
    except (KeyError, ValueError) as err:
        raise DataError(f"attribute {name}: expected longitude and latitude of four corners") from err


def _check_corners(box: GeoBox, lonlat: NDArray[np.float64]) -> None:
    to = pyproj.Transformer.from_crs("EPSG:4326", str(box.crs), always_xy=True)
    x, y = to.transform(lonlat[:, 0], lonlat[:, 1])
    column, row = (~box.affine) @ (x, y)
    height, width = box.shape
    off = np.hypot(column - [0, 0, width, width], row - [height, 0, 0, height])
    if not (off.max() <= NEAR):
        raise DataError(
            f"the corners that the file declares lie up to {off.max():.3g} pixels off its projection and offsets;"
            f" expected at most {NEAR}"
        )


def _check_extent(box: GeoBox, extent: tuple[float, float, float, float]) -> None:
    here, a = tuple(box.boundingbox.bbox), box.affine
    off = max(abs(h - e) / abs(p) for h, e, p in zip(here, extent, (a.a, a.e, a.a, a.e), strict=True))
    if off > NEAR:
        raise DataError(f"its extent is {here}, {off:.3g} pixels off; expected position.extent {extent}")


def check_same(first: CubeGrid, other: CubeGrid) -> None:
    """Refuse another grid. Raises DataError that says what differs."""
    a, b = first.geobox, other.geobox
    if a.shape != b.shape:
        raise DataError(
            f"{b.shape[1]} x {b.shape[0]} pixels; expected {a.shape[1]} x {a.shape[0]} as in the first frame"
        )
    if str(a.crs) != str(b.crs):
        old, new = (pyproj.CRS.from_user_input(str(box.crs)) for box in (a, b))
        if not pixel_offset(new, old, a) <= SAME:
            raise DataError(f"CRS {new.name}; expected {old.name} as in the first frame")
    back = ~a.affine
    corners = [(0, 0), (a.shape[1], a.shape[0])]
    off = max(math.dist(back @ (b.affine @ c), c) for c in corners)
    if off > SAME:
        raise DataError(f"lies {off:.3g} pixels off the first frame; expected the same grid")
    if (first.flipped, first.turned) != (other.flipped, other.turned):
        raise DataError("rows or columns run another way than in the first frame")


def check_range(part: slice | None, size: int, what: str) -> slice:
    """A slice with both ends inside. Raises InputError for another."""
    if part is None:
        return slice(0, size)
    start, stop = part.start or 0, size if part.stop is None else part.stop
    if part.step not in (None, 1) or not 0 <= start < stop <= size:
        raise InputError(f"{what}: {part}; expected a range inside 0 to {size}")
    return slice(start, stop)
