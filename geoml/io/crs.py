"""Coordinate reference systems as others write them: what a text means, and whether two of them place a grid alike.

One CRS has many spellings (a code, WKT of three kinds, PROJJSON, a PROJ string, an unnamed datum), so they are compared
by where they put pixels, never by their text.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from geoml.grid.region import from_geometry, utm_crs

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry import MultiPolygon

MAX_TEXT = 100_000
"""Characters of a CRS; more is not a CRS."""

STRETCHED = 0.02
"""Of its metres a map may be off those on the ground: what UTM, 0.1 %, and national grids are not, web Mercator beyond
11 degrees of latitude is."""

FULL_TURN = 360.0
"""Degrees of longitude around the Earth."""

_INIT = re.compile(r"\+?init=(epsg:\d+)", re.IGNORECASE)
_FORMS = re.compile(r"[A-Za-z][\w.-]*:\S+|\d{3,9}|.*\bproj=.*|\w+\s*[\[(].*|\{.*|.{1,60} / .{1,60}|WGS ?84", re.DOTALL)
"""Codes, PROJ strings, WKT, PROJJSON and names with a projection; PROJ takes a second to find no CRS of a name."""


def parse_crs(value: object) -> pyproj.CRS | None:
    """The CRS that a code, number, WKT, PROJJSON (text or mapping) or PROJ string means; None if it means none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value).strip()
    except (TypeError, ValueError, RecursionError):
        return None
    plausible = isinstance(value, int | str | dict) and 0 < len(text) <= MAX_TEXT and "\0" not in text
    return _parsed(text) if plausible else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> pyproj.CRS | None:
    if (old := _INIT.fullmatch(text)) is not None:
        text = old[1]
    if not _FORMS.fullmatch(text) or "init=" in text:
        return None
    try:
        crs = pyproj.CRS.from_json(text) if text.startswith("{") else pyproj.CRS.from_user_input(text)
        if " / " in text and "[" not in text and "proj=" not in text and crs.name.lower() != text.lower():
            return None  # the nearest name is not an answer
        return horizontal(crs)
    except (ProjError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    """The part of ``crs`` that says where a pixel lies: heights and a way to another datum left out."""
    if crs.is_compound:
        return horizontal(crs.sub_crs_list[0])
    if crs.is_bound and crs.source_crs is not None:
        return horizontal(crs.source_crs)
    return crs.to_2d() if (crs.is_geographic or crs.is_projected) and len(crs.axis_info) == 3 else crs


@lru_cache(maxsize=256)
def with_heights(plane: str, vertical: str | None) -> str:
    """WKT of the compound of a horizontal and a vertical CRS, or ``plane`` without one. Raises ProjError if they do
    not go together."""
    if vertical is None:
        return plane
    parts = [pyproj.CRS.from_user_input(plane), pyproj.CRS.from_user_input(vertical)]
    if parts[1].is_geographic:  # a GeoTIFF has no keys for a projected CRS of three axes, and would lose all of it
        axis = {"name": "Up", "abbreviation": "h", "direction": "up", "unit": "metre"}
        above = f"height above the ellipsoid of {parts[1].name}"
        said = {
            "type": "VerticalCRS",
            "name": above,
            "datum": {"type": "VerticalReferenceFrame", "name": "Ellipsoid"},
            "coordinate_system": {"subtype": "vertical", "axis": [axis]},
        }
        parts[1] = pyproj.CRS.from_json_dict(said)
    return str(pyproj.crs.CompoundCRS(" + ".join(p.name for p in parts), parts).to_wkt())


@lru_cache(maxsize=1024)
def crs_name(crs: pyproj.CRS) -> str:
    """One text for one CRS: its EPSG code, that of the UTM zone with the same numbers, another code, else its WKT."""
    if epsg := crs.to_epsg(min_confidence=100):
        return f"EPSG:{epsg}"
    if zone := crs.utm_zone:  # of an unnamed datum with the ellipsoid of WGS 84, as HLS and many older products have it
        code = utm_crs(int(zone[:-1]) * 6 - 183, 1 if zone[-1] == "N" else -1)
        from odc.geo.geobox import GeoBox

        box = GeoBox((1000, 1000), Affine(500, 0, 250_000, 0, -500, 4_000_000), code)
        if (
            crs.ellipsoid
            and crs.ellipsoid.name == "WGS 84"
            and pixel_offset(crs, pyproj.CRS.from_user_input(code), box) < 1e-6
        ):
            return code
    if crs.is_geographic and crs.equals(pyproj.CRS.from_epsg(4326), ignore_axis_order=True):
        return "EPSG:4326"  # OGC:CRS84, which a GeoTIFF cannot say
    authority = ("EPSG", str(epsg)) if (epsg := crs.to_epsg()) else crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()


@lru_cache(maxsize=256)
def to_degrees(crs: str) -> pyproj.Transformer | None:
    """From ``crs`` to longitude and latitude (WGS 84); None for a CRS that is not one of places on the Earth."""
    try:
        flat = horizontal(pyproj.CRS.from_user_input(crs))
        if not (flat.is_geographic or flat.is_projected):
            return None
        # PROJ refuses what it knows to be of another body
        return pyproj.Transformer.from_crs(flat, "EPSG:4326", always_xy=True)
    except ProjError:
        return None


@lru_cache(maxsize=4096)
def stretch(box: GeoBox) -> float:
    """Metres of the map for a metre on the ground in the middle of a grid: by area, 2 for web Mercator at 60° N.

    1 for degrees and where the projection says nothing there.
    """
    flat = None if box.crs is None else horizontal(box.crs.proj)
    if flat is None or not flat.is_projected:
        return 1.0
    x, y = box.affine * (box.shape[1] / 2, box.shape[0] / 2)
    try:
        plane = pyproj.Proj(flat)
        areal = float(plane.get_factors(*plane(x, y, inverse=True)).areal_scale)
    except ProjError:
        return 1.0
    return math.sqrt(areal) if math.isfinite(areal) and areal > 0 else 1.0


def true_metres(box: GeoBox) -> bool:
    """Whether the numbers of a plane are metres on the ground, to within `STRETCHED`."""
    crs = box.crs
    metres = crs is not None and crs.projected and crs.units == ("metre", "metre")
    return metres and abs(stretch(box) - 1) <= STRETCHED


def in_degrees(edge: shapely.Polygon, to: pyproj.Transformer) -> MultiPolygon:
    """What an edge with enough points holds, in degrees, split at the antimeridian. Around a pole it is the ground
    between the edge and the pole. Raises InputError as `geoml.grid.region.from_geometry`."""
    for pole in (90.0, -90.0):
        x, y = to.transform(0.0, pole, direction="INVERSE")
        if math.isfinite(x) and math.isfinite(y) and bool(shapely.contains_xy(edge, x, y)):
            lon, lat = to.transform(*shapely.get_coordinates(edge).T)
            lon = np.unwrap(lon, period=FULL_TURN)
            if abs(abs(lon[-1] - lon[0]) - FULL_TURN) < 1:
                top = np.linspace(lon[-1], lon[0], 5)  # steps of 90 degrees: none is taken for a way around
                ring = [*zip(lon, lat, strict=True), *((float(v), pole) for v in top)]
                return from_geometry(shapely.Polygon(ring))
    return from_geometry(shapely.transform(edge, to.transform, interleaved=False))


def sample_points(box: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of 5 x 5 points of a grid, its corners and its middle among them."""
    height, width = box.shape
    col, row = (v.ravel() for v in np.meshgrid(np.linspace(0, width, 5), np.linspace(0, height, 5)))
    a = box.affine
    return a.a * col + a.b * row + a.c, a.d * col + a.e * row + a.f


@lru_cache(maxsize=4096)
def on_earth(box: GeoBox) -> bool:
    """True when at least one of its points has a longitude and a latitude (a full disc has no corners)."""
    to = to_degrees(str(box.crs))
    return to is not None and bool(_has_place(to, box).any())


def _has_place(to: pyproj.Transformer, box: GeoBox) -> NDArray[np.bool_]:
    """Which points of the `sample_points` have a place: their way there and back ends where it began."""
    x, y = sample_points(box)
    lon, lat = to.transform(x, y)
    ok = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90 + 1e-9) & (np.abs(lon) <= 2 * FULL_TURN)
    back = to.transform(np.where(ok, lon, 0), np.where(ok, lat, 0), direction="INVERSE")
    off = _pixels(box, back[0] - x, back[1] - y)
    return np.asarray(ok & (off < 0.1))


@lru_cache(maxsize=4096)
def pixel_offset(declared: pyproj.CRS, real: pyproj.CRS, box: GeoBox) -> float:
    """Pixels that the points of a grid move when its numbers, which are of ``real``, are read as of ``declared``."""
    if declared == real:
        return 0.0
    to = to_degrees(real.to_wkt())
    if to is None or to_degrees(declared.to_wkt()) is None:
        return math.inf
    on_earth = _has_place(to, box)
    if not on_earth.any():
        return math.inf
    x, y = (v[on_earth] for v in sample_points(box))
    try:
        moved = pyproj.Transformer.from_crs(declared, real, always_xy=True).transform(x, y)
    except ProjError:
        return math.inf
    off = _pixels(box, moved[0] - x, moved[1] - y)
    return float(off.max()) if np.isfinite(off).all() else math.inf


def _pixels(box: GeoBox, dx: NDArray[np.float64], dy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths in pixels of differences of coordinates; of longitudes, the short way round."""
    a = ~box.affine
    with np.errstate(invalid="ignore"):  # what has no place is not finite
        if box.crs is not None and box.crs.geographic:
            dx = dx - FULL_TURN * np.round(dx / FULL_TURN)
        return np.asarray(np.hypot(a.a * dx + a.b * dy, a.d * dx + a.e * dy))


@lru_cache(maxsize=4096)
def aligned(box: GeoBox, crs: str) -> GeoBox:
    """The grid in ``crs`` where that puts its pixels on the same places to a thousandth, else as it is."""
    if str(box.crs) == crs or box.crs is None:
        return box
    declared = parse_crs(crs)
    real = parse_crs(str(box.crs))
    if declared is None or real is None or declared.is_geographic != real.is_geographic:
        return box
    from odc.geo.geobox import GeoBox

    return GeoBox(box.shape, box.affine, crs) if pixel_offset(declared, real, box) <= 1e-3 else box
