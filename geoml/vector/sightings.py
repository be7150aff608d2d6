"""Objects over time: one that is seen again keeps its id, one that was looked for in vain often enough is closed.

For what stays where it is (trees, roofs, solar panels); what moves is `geoml.vector.tracker`. A detector misses some of
what is there, so one look without an object does not mean that it is gone; and where nobody looked, nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError
from geoml.grid.ellipsoid import WGS84
from geoml.vector.assignment import assigned
from geoml.vector.polygons import Columns
from geoml.vector.tracks import Geometries, Histories, Times, names_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH = 6.0
"""Metres between the centres of one object on two days, at least: registration, and boxes that are drawn again. In
imagery of one place over years 90 % of the trees have a partner within them, Ventura et al. 2024, arXiv 2208.10607."""
STEADY = 8
"""Sightings over which the place of an object is averaged: less noise than one look, and it may still creep."""
LOOKED = 0.9
"""Share of a box that must have data for an object to be looked for."""
SURE = 0.05
"""Joint chance of missing an object that is there, below which one that was not found is gone."""


@dataclass(frozen=True, slots=True)
class ObjectsOfDay(Columns):
    """Objects of a day: boxes in degrees, class (uint8), centre ``x``, ``y`` (degrees), longer side (metres)."""

    geometry: Geometries
    value: NDArray[np.uint8]
    x: Floats
    y: Floats
    length: Floats


@dataclass(frozen=True, slots=True)
class Sightings(Histories):
    """Objects with a history, ordered by id: what `ObjectsOfDay` holds as it was last, and when it was.

    Of the centre it is the mean, of the last `STEADY` sightings or so.
    Times are datetime64[us], UTC. ``sightings`` counts the days on which it was found, ``looks`` those on which it was
    looked for, ``misses`` those of the latter since it was last found (int64).
    """

    id: NDArray[np.object_]
    geometry: Geometries
    value: NDArray[np.uint8]
    x: Floats
    y: Floats
    length: Floats
    first_seen: Times
    last_seen: Times
    sightings: Ints
    looks: Ints
    misses: Ints
    closed: Times

    @classmethod
    def empty(cls) -> Sightings:
        """No objects yet."""
        nothing, never, none = np.empty(0, object), np.empty(0, "datetime64[us]"), np.empty(0, np.int64)
        value, size = np.empty(0, np.uint8), np.empty(0)
        return cls(nothing, nothing, value, size, size, size, never, never, none, none, none, never)

    def missed_chance(self, recall: Mapping[int, float | None]) -> Floats:
        """(n,) chance to miss each as often as it was, were it there: (1 - recall) ** misses.

        ``recall`` is by class; NaN where it is not known. Misses count as independent of each other.
        """
        found = np.array([np.nan if (r := recall.get(k)) is None else r for k in range(256)])
        miss = 1 - found[self.value]
        return np.where(np.isnan(miss), np.nan, miss**self.misses)


def sighted(
    tracks: Sightings,
    seen: ObjectsOfDay,
    when: np.datetime64,
    looked: Callable[[Geometries], Floats],
    recall: Mapping[int, float | None],
) -> tuple[Sightings, NDArray[np.object_]]:
    """(the tracks after a day, the id of each object of it).

    An object is an open track seen again where both have one class and centres no farther apart than half the longer
    side of the smaller of them, and than `REACH` where that is more; one to one, so that nearness and overlap add up
    to the most. A track that is not found was looked for where at least `LOOKED` of its box had data; it is closed when
    the chance to miss it so often in a row is below `SURE`, and never by itself where the recall of its class is not
    known. A closed one never opens again: what comes back is new. The order of rows does not matter.

    Args:
        tracks: so far.
        seen: the objects of the day, (n,).
        when: the day; not before any so far.
        looked: share, 0 to 1, of each of some boxes (m,) in degrees that had data on that day.
        recall: by class.

    Raises InputError for a day from the past.
    """
    when = when.astype("datetime64[us]")
    latest = np.concatenate([tracks.last_seen, tracks.closed[~np.isnat(tracks.closed)]])
    if len(latest) and when < latest.max():
        raise InputError(f"when: {when} is before the last look, {latest.max()}; looks come in the order of time")
    shapes = shapely.to_wkb(seen.geometry)
    keys = list(zip(seen.value.tolist(), seen.y.tolist(), seen.x.tolist(), shapes.tolist(), strict=True))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.intp)
    seen = seen.take(order)

    open_ = np.flatnonzero(np.isnat(tracks.closed))
    open_ = open_[np.argsort(tracks.id[open_].astype(str), kind="stable")]
    old, new = _pairs(tracks.take(open_), seen)
    again, missed = open_[old], np.setdiff1d(open_, open_[old])
    missed = missed[looked(tracks.geometry[missed]) >= LOOKED] if len(missed) else missed

    after = tracks.take(np.arange(len(tracks)))  # a copy
    after.geometry[again], after.length[again] = seen.geometry[new], seen.length[new]
    after.last_seen[again] = when
    after.sightings[again] += 1
    weight = 1 / np.minimum(after.sightings[again], STEADY)
    after.x[again] = _turned(after.x[again] + weight * _turned(seen.x[new] - after.x[again]))
    after.y[again] += weight * (seen.y[new] - after.y[again])
    after.looks[again] += 1
    after.misses[again] = 0
    after.looks[missed] += 1
    after.misses[missed] += 1
    gone = missed[after.missed_chance(recall)[missed] < SURE]
    after.closed[gone] = when

    fresh = np.setdiff1d(np.arange(len(seen)), new)
    first = seen.take(fresh)
    names = np.empty(len(seen), object)
    names[new] = tracks.id[again]
    names[fresh] = names_of(np.column_stack([first.x, first.y]), first.value, when, set(tracks.id))
    ids = np.empty(len(seen), object)
    ids[order] = names
    times, one = np.full(len(fresh), when), np.ones(len(fresh), np.int64)
    never = np.full(len(fresh), np.datetime64("NaT", "us"))
    box = (first.geometry, first.value, first.x, first.y, first.length)
    return after.merged(Sightings(names[fresh], *box, times, times, one, one, one * 0, never)), ids


def _pairs(before: Sightings, after: ObjectsOfDay) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which object before is which one after, one to one.

    A pair is worth (1 - distance / gate)² and its intersection over union. The square prefers one near pair to two
    distant ones, so a row of neighbours does not move up by one where the first is gone and a new one is at its end.
    """
    from scipy.spatial import cKDTree  # scipy, which a plan does without

    nothing = np.empty(0, np.intp)
    if not len(before) or not len(after):
        return nothing, nothing
    here, there = _places(before), _places(after)
    near = cKDTree(here).query_ball_point(there, np.maximum(after.length / 2, REACH), return_sorted=True)
    new = np.repeat(np.arange(len(after)), [len(n) for n in near])
    old = np.concatenate([np.asarray(n, np.intp) for n in near])
    gate = np.maximum(np.minimum(before.length[old], after.length[new]) / 2, REACH)
    apart = np.linalg.norm(here[old] - there[new], axis=1)
    some = (before.value[old] == after.value[new]) & (apart < gate)
    old, new, gate, apart = old[some], new[some], gate[some], apart[some]
    boxes = _at_its_place(before)
    common = shapely.area(shapely.intersection(boxes[old], after.geometry[new]))
    union = shapely.area(boxes)[old] + shapely.area(after.geometry)[new] - common
    worth = (1 - apart / gate) ** 2 + common / union
    chosen = assigned(old, new, 2 - worth, 2.0, (len(before), len(after)))
    return old[chosen], new[chosen]


def _at_its_place(objects: Sightings) -> Geometries:
    """The last boxes, moved to the mean places: that of one look is as noisy as its centre."""
    middle = shapely.get_coordinates(shapely.centroid(objects.geometry))
    offset = np.column_stack([objects.x, objects.y]) - middle
    vertices = shapely.get_coordinates(objects.geometry)
    moved = vertices + np.repeat(offset, shapely.get_num_coordinates(objects.geometry), axis=0)
    boxes: Geometries = shapely.set_coordinates(objects.geometry.copy(), moved)
    return boxes


def _turned(lon: Floats) -> Floats:
    """Degrees, or a difference of them, between -180 and 180."""
    return (lon + 180) % 360 - 180


def _places(objects: Sightings | ObjectsOfDay) -> Floats:
    """(n, 3) metres from the middle of the earth, so that distances hold anywhere, also over the antimeridian."""
    lon, lat = np.radians(objects.x), np.radians(objects.y)
    across = WGS84.a / np.sqrt(1 - WGS84.es * np.sin(lat) ** 2)
    level = across * np.cos(lat)
    return np.column_stack([level * np.cos(lon), level * np.sin(lon), across * (1 - WGS84.es) * np.sin(lat)])
