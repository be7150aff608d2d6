"""Whether an item gives the true place of its file. The header is authoritative; the item is a check.

Where the two disagree the item's footprint, a third witness, decides: a file that lies there is used as it is, for
wrong codes are common (HLS names southern zones for grids that count from the equator); any other is refused.
"""

from __future__ import annotations

import logging

import pyproj
import pystac
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from shapely.affinity import translate
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError
from geoml.grid.region import from_geometry, project
from geoml.io.cog.read import Header, header
from geoml.io.crs import FULL_TURN, pixel_offset
from geoml.io.stac.asset_projection import declared_crs, levels, parse_affine
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.item import footprint

log = logging.getLogger(__name__)

TOLERANCE = 0.5
"""Pixels that a declared and a real corner may differ."""

SHARED = 0.5
"""Of the smaller one of footprint and file, the share that they must have in common."""


def check_projection(item: pystac.Item, spec: BandSpec, warned: set[str] | None = None) -> None:
    """Compare what an asset, else its item, says of its CRS and transform with the file's header.

    A CRS is compared by where it puts the file's pixels. One that is null or not known says nothing. The item's own
    transform is compared only where it speaks of a grid of this size, for an item may have assets of several
    resolutions. Warnings come once for each collection when ``warned`` is the same set for all calls.

    Raises DataError naming item, asset and both values, else what `geoml.io.cog.read.header` raises.
    """
    real = header(spec)
    where = f"item {item.id}, asset {spec.asset}"
    _check_crs(item, spec, real, where, set() if warned is None else warned)
    _check_transform(item, spec, real, where)


def _check_crs(item: pystac.Item, spec: BandSpec, real: Header, where: str, warned: set[str]) -> None:
    declared, silent = declared_crs(item, item.assets[spec.asset])
    if not declared:
        if silent:
            words = "%s: its CRS %s is unusable; using that of the file (%s)"
            _warn(item, warned, "silent", words, where, str(silent[0])[:80], real.crs[:80])
        return
    ours = pyproj.CRS.from_user_input(real.crs)
    if any(pixel_offset(crs, ours, real.geobox) <= TOLERANCE for crs in declared):
        return
    theirs_name, ours_name = _name(declared[0]), _name(ours)
    if not _covers(item, real.geobox):
        raise DataError(
            f"{where}: the item says {theirs_name}, the file is in {ours_name}, and the item's footprint does not bear "
            "the file out; expected the same"
        )
    words = "%s: the item says %s, the file is in %s and lies on the item's footprint; using the file"
    _warn(item, warned, "other", words, where, theirs_name, ours_name)


def _check_transform(item: pystac.Item, spec: BandSpec, real: Header, where: str) -> None:
    own, whole = levels(item, item.assets[spec.asset])
    fields = own if "proj:transform" in own else whole if whole.get("proj:shape") == list(real.shape) else {}
    if (transform := fields.get("proj:transform")) is None:
        return
    affine = parse_affine(transform)
    if affine is None:
        raise DataError(f"{where}: proj:transform {str(transform)[:80]}; expected six numbers")
    box, (height, width) = real.geobox.affine, real.shape
    if affine.e > 0 and not affine.b and not affine.d and box.e < 0:  # south up, as the file may be
        affine = affine @ Affine(1, 0, 0, 0, -1, height)
    if real.geobox.crs is not None and real.geobox.crs.geographic:
        affine = Affine.translation(-FULL_TURN * round((affine.c - box.c) / FULL_TURN), 0) @ affine
    back = ~box @ affine
    corners = ((0, 0), (width, height), (width, 0))
    drift = max(abs(moved - at) for corner in corners for moved, at in zip(back @ corner, corner, strict=True))
    if not drift <= TOLERANCE:
        raise DataError(
            f"{where}: proj:transform puts the corner at {affine.c:.8g}, {affine.f:.8g} with pixels of "
            f"{affine.a:g}, the file has {box.c:.8g}, {box.f:.8g} and {box.a:g}; expected less than half a pixel"
        )


def _covers(item: pystac.Item, grid: GeoBox) -> bool:
    """Whether the file's pixels lie on the item's geometry (else its bbox); False where it has none."""
    try:
        outline = from_geometry(footprint({"id": item.id, "geometry": item.geometry, "bbox": item.bbox}))
        theirs, ours = project(_all_turns(outline, grid), str(grid.crs)), grid.extent.geom
        shared = shapely.intersection(theirs, ours).area
        return bool(shared >= SHARED * min(theirs.area, ours.area) > 0)
    except (InputError, DataError, ShapelyError, ProjError, ValueError, TypeError):
        return False


def _all_turns(region: MultiPolygon, grid: GeoBox) -> MultiPolygon:
    """A region in degrees, for a grid in degrees also one turn further each way."""
    if grid.crs is None or not grid.crs.geographic:
        return region
    turns = (-FULL_TURN, 0.0, FULL_TURN)
    return MultiPolygon([translate(part, xoff=turn) for turn in turns for part in region.geoms])


def _name(crs: pyproj.CRS) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.name


def _warn(item: pystac.Item, warned: set[str], kind: str, words: str, *values: str) -> None:
    key = f"{kind} {item.collection_id}"
    if key not in warned:
        warned.add(key)
        log.warning(words + " (once for each collection)", *values)
