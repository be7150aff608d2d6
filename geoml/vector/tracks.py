"""Changes over time: what is seen again keeps its id, what is gone is closed, what was not observed stays as it was."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.vector.polygons import Columns, concatenated

Geometries = NDArray[np.object_]
Times = NDArray[np.datetime64]

OVERLAP = 0.5
"""Share of the smaller of two polygons that must lie in the other for them to be one change."""
OBSERVED = 0.9
"""Share of a change that must have been observed for its absence to mean something."""
GRID = 1e-6
"""Degrees, a tenth of a metre: the point that names a change is rounded to it."""


class Histories(Columns):
    """The base of what is followed over time: rows ordered by ``id``, ``closed`` NaT while one is open."""

    __slots__ = ()
    id: NDArray[np.object_]
    closed: Times

    def merged(self, other: Self) -> Self:
        """The rows of both."""
        both = concatenated([self, other])
        return both.take(np.argsort(both.id.astype(str)))


@dataclass(frozen=True, slots=True)
class Tracks(Histories):
    """Changes with a history, ordered by id; polygons or multipolygons in longitude and latitude.

    ``value`` (uint8) is the class. Times are datetime64[us], UTC: those of the first
    and the last observation of the change, and of the first one without it: NaT while it is open.
    """

    id: NDArray[np.object_]
    geometry: Geometries
    value: NDArray[np.uint8]
    first_seen: Times
    last_seen: Times
    closed: Times

    @classmethod
    def empty(cls) -> Tracks:
        """No changes yet."""
        nothing, never = np.empty(0, object), np.empty(0, "datetime64[us]")
        return cls(nothing, nothing, np.empty(0, np.uint8), never, never, never)


def follow(
    tracks: Tracks,
    geometry: Geometries,
    value: NDArray[np.uint8],
    when: np.datetime64,
    observed: shapely.Geometry,
) -> tuple[Tracks, NDArray[np.object_]]:
    """(the tracks after an observation, the id of each polygon of it).

    A polygon is an open track seen again where both have one class and share at least `OVERLAP` of the smaller of
    them; one to one, the largest common area first. So the largest part of a change that fell apart keeps its id and
    the others are new, and where changes grew together the one with the largest part goes on and the others are
    closed. A track seen again takes the new polygon; parts of it that were not observed stay. An open track that is not
    seen is closed when at least `OBSERVED` of it was observed. A closed one never opens again: what comes back is new.
    The order of rows does not matter, and the same observation twice gives the same.

    Args:
        tracks: so far.
        geometry: (N,) polygons that were observed, in longitude and latitude.
        value: (N,) their classes.
        when: time of the observation, UTC; not before any so far.
        observed: where it had valid data, on all its dates.

    Raises InputError for what is not a polygon, and for an observation from the past.
    """
    when = when.astype("datetime64[us]")
    latest = np.concatenate([tracks.last_seen, tracks.closed[~np.isnat(tracks.closed)]])
    if len(latest) and when < latest.max():
        raise InputError(f"when: {when} is before the last look, {latest.max()}; looks come in the order of time")
    polygons, order = _sorted(geometry, value)
    value = np.asarray(value, np.uint8)[order]
    shapely.prepare(observed)

    open_ = np.flatnonzero(np.isnat(tracks.closed))
    open_ = open_[np.argsort(tracks.id[open_].astype(str), kind="stable")]
    before = tracks.geometry[open_]
    old, new = _pairs(before, tracks.value[open_], polygons, value)

    after, last, closed = tracks.geometry.copy(), tracks.last_seen.copy(), tracks.closed.copy()
    after[open_[old]] = _seen_again(before[old], polygons[new], observed)
    last[open_[old]] = when
    missed = np.setdiff1d(np.arange(len(open_)), old)
    gone = _share(before[missed], observed) >= OBSERVED
    closed[open_[missed[gone]]] = when

    fresh = np.setdiff1d(np.arange(len(polygons)), new)
    names = np.empty(len(polygons), object)
    names[new] = tracks.id[open_[old]]
    inside = shapely.get_coordinates(shapely.point_on_surface(shapely.normalize(polygons[fresh])))
    names[fresh] = names_of(inside, value[fresh], when, set(tracks.id))
    times = np.full(len(fresh), when)
    never = np.full(len(fresh), np.datetime64("NaT", "us"))
    ids = np.empty(len(polygons), object)
    ids[order] = names
    followed = replace(tracks, geometry=after, last_seen=last, closed=closed)
    return followed.merged(Tracks(names[fresh], polygons[fresh], value[fresh], times, times, never)), ids


def _sorted(geometry: Geometries, value: NDArray[np.uint8]) -> tuple[Geometries, NDArray[np.intp]]:
    """Valid polygons in an order that depends on them alone, and where each came from."""
    polygons = np.asarray(geometry, object)
    if polygons.shape != np.shape(value) or polygons.ndim != 1:
        raise InputError(f"geometry, value: shapes {polygons.shape}, {np.shape(value)}; expected (N,) twice")
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    if not np.isin(shapely.get_type_id(polygons), kinds).all() or shapely.is_empty(polygons).any():
        raise InputError("geometry: expected polygons that are not empty")
    broken = ~shapely.is_valid(polygons)
    if broken.any():
        polygons = polygons.copy()
        polygons[broken] = [_polygons(g) for g in shapely.make_valid(polygons[broken])]
    keys = shapely.to_wkb(shapely.normalize(polygons))
    order = np.array(sorted(range(len(polygons)), key=lambda k: (int(value[k]), keys[k])), np.intp)
    return polygons[order], order


def _pairs(
    before: Geometries, was: NDArray[np.uint8], after: Geometries, now: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which polygon before is which after: one to one, the largest common area first, then in the order given."""
    new, old = shapely.STRtree(before).query(after, predicate="intersects")
    alike = was[old] == now[new]
    old, new = old[alike], new[alike]
    common = shapely.area(shapely.intersection(before[old], after[new]))
    smaller = np.minimum(shapely.area(before)[old], shapely.area(after)[new])
    near = (common > 0) & (common >= OVERLAP * smaller)
    old, new, common = old[near], new[near], common[near]
    one, other = [], []
    free_old, free_new = np.ones(len(before), bool), np.ones(len(after), bool)
    for k in np.lexsort((new, old, -common)):
        if free_old[old[k]] and free_new[new[k]]:
            free_old[old[k]] = free_new[new[k]] = False
            one.append(old[k])
            other.append(new[k])
    return np.array(one, np.intp), np.array(other, np.intp)


def _seen_again(before: Geometries, after: Geometries, observed: shapely.Geometry) -> Geometries:
    """The new polygons, with the parts of those before that were not observed."""
    out = after.copy()
    for k in np.flatnonzero(~shapely.covers(observed, before)):
        rest = _polygons(shapely.difference(before[k], observed))
        if rest.area > 0:
            out[k] = _polygons(shapely.union(after[k], rest))
    return out


def _share(geometry: Geometries, observed: shapely.Geometry) -> NDArray[np.float64]:
    """How much of each polygon was observed, 0..1."""
    share: NDArray[np.float64] = shapely.covers(observed, geometry).astype(np.float64)
    partly = np.flatnonzero((share == 0) & shapely.intersects(observed, geometry))
    share[partly] = shapely.area(shapely.intersection(geometry[partly], observed)) / shapely.area(geometry[partly])
    return share


def _polygons(geometry: shapely.Geometry) -> shapely.Geometry:
    """Its polygons only, as one polygon or multipolygon."""
    parts = shapely.get_parts(geometry)
    if shapely.get_type_id(geometry) == shapely.GeometryType.GEOMETRYCOLLECTION:
        parts = shapely.get_parts(parts)
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return parts[0] if len(parts) == 1 else shapely.multipolygons(parts)


def names_of(points: NDArray[np.float64], value: NDArray[np.uint8], when: np.datetime64, taken: set[str]) -> list[str]:
    """Sixteen hexadecimal digits for each of (n, 2) points in degrees: class, time and place, rounded.

    Where two are alike, or one is ``taken``, it is counted on.
    """
    names = []
    for kind, (x, y) in zip(value.tolist(), np.round(points / GRID).astype(np.int64).tolist(), strict=True):
        again = 0
        while (name := hashlib.sha256(f"{kind} {when} {x} {y} {again}".encode()).hexdigest()[:16]) in taken:
            again += 1
        taken.add(name)
        names.append(name)
    return names
