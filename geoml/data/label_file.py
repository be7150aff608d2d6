"""A file of labels as people make them: places with a class, checked before anything is read.

What cannot be meant is refused with its field and count; what is merely missing in some rows is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geoml.errors import InputError, NothingFound
from geoml.grid.region import polygonal
from geoml.io.tables import vectors
from geoml.texts import counted, listed

MOST = 254
"""Classes of a map."""
SHARED = 0.01
"""Share of the smaller polygon that two classes may both cover: borders that were drawn twice."""
KINDS = {"Point": "point", "Polygon": "polygon", "LineString": "line", "GeometryCollection": "collection"}
"""Types of geometries in words."""
AGREES = 0.6
"""Agreement of another column beyond chance (Cohen 1960, https://doi.org/10.1177/001316446002000104), from which on it
is taken to name the same classes."""


SWAPPED = ", and {} with x and y swapped; expected x (longitude, easting) first"
ASIDE = ("mapped", "sure", "set_size", "dissimilarity")
"""Columns of places that `geoml area next` writes beside the class: what the map says, which labels may correct."""


@dataclass(frozen=True, eq=False)
class LabelFile:
    """Labels in degrees: ``frame`` has a geometry and an index of ``classes`` in ``label``; ``kind`` is point, polygon,
    or place where files of both were joined. ``left_out`` counts rows by why they are not in it, ``given`` are the
    places of a file in its own CRS, ``path`` is where it is."""

    frame: gpd.GeoDataFrame
    classes: tuple[str, ...]
    kind: str
    left_out: dict[str, int] = field(default_factory=dict)
    given: gpd.GeoSeries | None = None
    path: str = ""


def read(
    path: str | Path, column: str, layer: str | None = None, *, contradictions: bool = False, least: int = 2
) -> LabelFile:
    """Labels of a vector file, by the classes that the rows of ``column`` name.

    ``contradictions=True`` takes a column that another one contradicts, ``least`` is of classes. Raises DataError for a
    file that cannot be read, InputError, naming field and count, for what cannot be learnt from.
    """
    frame = vectors.read(path, layer)
    if frame.crs is None:
        raise InputError(
            f"labels: {path} has no CRS; expected one in the file (none of the {len(frame)} places can be located)"
        )
    if column not in frame.columns or column == frame.geometry.name:
        names = [str(c) for c in frame.columns if c != frame.geometry.name]
        raise InputError(f"field: no {column!r} in {path}; it has {listed(names)}")
    if frame.empty:
        raise InputError(f"labels: {path} has no rows; expected places with a class in {column!r}")
    left: dict[str, int] = {}
    frame = _kept(frame, ~(frame.geometry.isna() | frame.geometry.is_empty), left, "without a geometry")
    if frame.empty:
        raise InputError(f"labels: {path} has no geometry in any row; expected places with a class in {column!r}")
    named = frame[column].map(word)
    if not named.notna().any():
        raise InputError(f"field: {column!r} is empty in {_all_rows(frame)} of {path}; expected the class of each")
    frame = _kept(frame, named.notna(), left, f"without a value in {column}")
    kind = _kind(frame, path)
    named = frame[column].map(word)
    classes = in_order(set(named))
    if len(classes) > MOST:
        count = counted(len(frame), "row")
        raise InputError(f"field: {len(classes)} values of {column!r} in {count} of {path}; at most {MOST} classes")
    if len(classes) < least:
        raise InputError(
            f"field: {column!r} is {classes[0]!r} in {_all_rows(frame)} of {path}; expected two classes or more"
        )
    if not contradictions:
        _check_columns(frame, column, named, path)
    frame = frame.set_geometry(shapely.force_2d(frame.geometry.to_numpy()), crs=frame.crs)
    label = named.map({c: k for k, c in enumerate(classes)}).astype(np.int64)
    out = gpd.GeoDataFrame({"label": label}, geometry=frame.geometry, crs=frame.crs)
    if kind == "point":
        out = out.explode()  # each point of a MultiPoint is a place
    _check_degrees(out, path)
    given = out.geometry
    out = out.to_crs("EPSG:4326")
    if lost := int((~np.isfinite(out.geometry.bounds)).any(axis=1).sum()):
        right = int((~shapely.is_missing(_swapped(given))).sum())
        hint = SWAPPED.format(f"{right} would be in it") if right > len(out) - lost else "; expected its units"
        raise InputError(
            f"labels: {lost} of {counted(len(out), 'place')} of {path} lie outside the area of its CRS{hint}"
        )
    if kind == "polygon":
        broken = ~out.geometry.is_valid
        out.loc[broken, "geometry"] = polygonal(shapely.make_valid(out.geometry[broken].to_numpy()))
        out = _kept(out, ~out.geometry.is_empty, left, "without an area")
        _check_overlaps(out, classes, column, path)
    return LabelFile(out.reset_index(drop=True), classes, kind, left, given, str(path))


def joined(files: Sequence[LabelFile], column: str, *, least: int = 2) -> LabelFile:
    """The labels of several files, with the number of its file in ``file`` of each.

    Raises InputError if they have fewer than ``least`` classes, or more than a map has.
    """
    classes = in_order({name for one in files for name in one.classes})
    if not least <= len(classes) <= MOST:
        raise InputError(
            f"field: {counted(len(classes), 'class', 'classes')} of {column!r} in all files; expected {least} to {MOST}"
        )
    left: dict[str, int] = {}
    frames = []
    for number, one in enumerate(files):
        for why, n in one.left_out.items():
            left[why] = left.get(why, 0) + n
        to = np.array([classes.index(name) for name in one.classes])
        frames.append(one.frame.assign(label=to[one.frame["label"]], file=number))
    kinds = {one.kind for one in files}
    kind = kinds.pop() if len(kinds) == 1 else "place"
    return LabelFile(pd.concat(frames, ignore_index=True), classes, kind, left)


def _kept(frame: gpd.GeoDataFrame, good: pd.Series, left: dict[str, int], why: str) -> gpd.GeoDataFrame:
    if bad := int((~good).sum()):
        left[why] = bad
    return frame[good]


def word(value: object) -> str | None:
    """A value as the name of a class; None for none: null, NaN or blank."""
    number = isinstance(value, float | np.floating)
    if value is None or value is pd.NA or (number and not np.isfinite(value)):  # type: ignore[call-overload]
        return None
    text = str(int(value)) if number and value == int(value) else str(value).strip()  # type: ignore[call-overload]
    return text or None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes, numbers in their order and before words."""
    return tuple(sorted(names, key=_natural))


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers in their order, before names."""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    return (0, value, text) if np.isfinite(value) else (1, 0.0, text)


def _kind(frame: gpd.GeoDataFrame, path: str | Path) -> str:
    counts = frame.geom_type.str.removeprefix("Multi").value_counts()
    if len(counts) > 1 or counts.index[0] not in ("Point", "Polygon"):
        said = " and ".join(counted(n, KINDS.get(name, name)) for name, n in counts.items())
        raise InputError(f"labels: {said} in {path}; expected all points or all polygons")
    return str(counts.index[0]).lower()


def _check_degrees(frame: gpd.GeoDataFrame, path: str | Path) -> None:
    if frame.crs.is_geographic and (
        wrong := int((frame.geometry.bounds[["miny", "maxy"]].abs() > 90).any(axis=1).sum())
    ):
        raise InputError(
            f"labels: {wrong} of {counted(len(frame), 'place')} of {path} {_have(wrong)} a latitude beyond 90 degrees;"
            " x is longitude, y latitude: expected axes that are not swapped"
        )


def _check_columns(frame: gpd.GeoDataFrame, column: str, named: pd.Series, path: str | Path) -> None:
    """Refuse a column whose classes another column names otherwise in some rows: one of them is wrong there."""
    for other in frame.columns:
        if other in (column, frame.geometry.name) or str(other).removeprefix("geoml_") in ASIDE:
            continue
        theirs = frame[other].map(word)
        if theirs.isna().mean() > 1 - AGREES or not 2 <= theirs.nunique() <= 2 * named.nunique():
            continue
        table = pd.crosstab(named, theirs)  # without rows that it is silent about
        counts, left, right = table.to_numpy(), list(table.index), list(table.columns)
        if ((counts > 0).sum(1) <= 1).all() or ((counts > 0).sum(0) <= 1).all():
            continue  # one says what the other does, perhaps in finer classes
        rows, cols = linear_sum_assignment(-counts)
        total, same = counts.sum(), counts[rows, cols].sum()
        chance = float((counts.sum(1)[rows] * counts.sum(0)[cols]).sum() / total**2)
        against = int(total - same)
        if same / total - chance >= AGREES * (1 - chance):
            mixed = np.flatnonzero((counts > 0).sum(1) > 1)
            said = [f"{left[a]!r} is {right[b]!r} in {counts[a, b]}" for a in mixed
                    for b in np.flatnonzero(counts[a])]  # fmt: skip
            raise InputError(
                f"field: {column!r} and {str(other)!r} contradict each other in {against} of {len(frame)} rows"
                f" of {path} ({listed(said)}); correct the file, or --contradictions allow"
            )


def _check_overlaps(frame: gpd.GeoDataFrame, classes: Sequence[str], column: str, path: str | Path) -> None:
    """Refuse polygons of two classes that share ground."""
    shapes, label = frame.geometry.to_numpy(), frame["label"].to_numpy()
    one, two = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    both = (one < two) & (label[one] != label[two])
    one, two = one[both], two[both]
    area = shapely.area(shapely.intersection(shapes[one], shapes[two]))
    share = area / np.maximum(np.minimum(shapely.area(shapes[one]), shapely.area(shapes[two])), 1e-300)
    if (bad := share > SHARED).any():
        a, b = one[bad][0], two[bad][0]
        pairs = int(bad.sum())
        raise InputError(
            f"field: {counted(pairs, 'pair')} of polygons with two values of {column!r} overlap{'s' * (pairs == 1)} in"
            f" {path}, such as row {frame.index[a] + 1} ({classes[label[a]]}) and row {frame.index[b] + 1}"
            f" ({classes[label[b]]}); expected ground of one class"
        )


def within(file: LabelFile, region: shapely.MultiPolygon) -> LabelFile:
    """The labels of which some ground lies in a region in degrees, the others counted.

    Raises NothingFound, InputError if most would lie there with x and y swapped.
    """
    shapes = file.frame.geometry.to_numpy()
    shapely.prepare(region)
    inside = np.asarray(shapely.intersects(region, shapes))
    if not inside.any():
        none = f"labels: none of {counted(len(shapes), 'place')} of {file.path or 'the labels'} lies in the region"
        right = 0 if file.given is None else int(shapely.intersects(region, _swapped(file.given)).sum())
        if 2 * right > len(shapes):
            raise InputError(none + SWAPPED.format(f"{right} of them would"))
        raise NothingFound(none)
    if inside.all():
        return file
    left = file.left_out | {"outside of the region": int((~inside).sum())}
    return LabelFile(file.frame[inside].reset_index(drop=True), file.classes, file.kind, left, path=file.path)


def _swapped(given: gpd.GeoSeries) -> NDArray[np.object_]:
    """Places with x and y exchanged, in degrees; None for those that the CRS then does not reach."""
    swapped = gpd.GeoSeries(shapely.transform(given.to_numpy(), lambda c: c[:, ::-1]), crs=given.crs)
    found: NDArray[np.object_] = swapped.to_crs("EPSG:4326").to_numpy().copy()
    found[~np.isfinite(shapely.bounds(found)).all(axis=1)] = None
    return found


def ground(file: LabelFile, side: float) -> NDArray[np.int64]:
    """(place,) number of what must stay together: labels that touch one square of ``side`` metres, and so on from
    label to label.

    0 takes every place by itself.
    """
    count = len(file.frame)
    if side == 0:
        return np.arange(count)
    crs = file.frame.estimate_utm_crs()
    shapes = shapely.transform(file.frame.geometry.to_crs(crs).to_numpy(), lambda c: c / side)
    low, high = np.floor(shapely.bounds(shapes)[:, [1, 3]]).astype(np.int64).T
    rows = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    of, row = np.repeat(np.arange(count), high - low + 1), np.concatenate(rows)
    west, _, east, _ = shapely.total_bounds(shapes)
    strips = shapely.intersection(shapes[of], shapely.box(west - 1, row, east + 1, row + 1))
    pieces, strip = shapely.get_parts(strips, return_index=True)
    there = ~shapely.is_empty(pieces)  # between two parts of a label
    pieces, strip = pieces[there], strip[there]
    # a piece that is connected touches all squares of its row from its west to its east
    first, last = np.floor(shapely.bounds(pieces)[:, [0, 2]]).T + (row[strip] * (np.ceil(east - west) + 2))
    order = np.argsort(first, kind="stable")
    new = np.r_[True, first[order][1:] > np.maximum.accumulate(last[order])[:-1]]
    links = np.ones(len(order)), (of[strip][order], count + np.cumsum(new) - 1)
    found: NDArray[np.int64] = connected_components(coo_array(links, shape=[count + int(new.sum())] * 2))[1][:count]
    return found.astype(np.int64)


def check_ground(file: LabelFile, number: NDArray[np.int64], column: str) -> None:
    """Raise InputError for classes that cannot be held out: of a single place, or whose places share their ground."""
    labels = file.frame["label"].to_numpy()
    few, shared = [], []
    for k, name in enumerate(file.classes):
        mine = labels == k
        if mine.sum() < 2:
            few.append(f"{name} has {int(mine.sum())}")
        elif len(np.unique(number[mine])) < 2:
            shared.append(f"all {int(mine.sum())} of {name}")
    if few:
        raise InputError(
            f"field: {len(few)} of {len(file.classes)} classes of {column!r} {_have(len(few))} fewer than two"
            f" {file.kind}s, of which one is held out to score the other: {listed(few)}"
        )
    if shared:
        lie = "lies on one piece of ground" if len(shared) == 1 else "lie on one piece of ground each"
        raise InputError(
            f"field: {len(shared)} of {len(file.classes)} classes of {column!r} {lie}"
            f" ({listed(shared)}; labels that touch one square of --ground are one piece), so that none can be held"
            " out; expected places further apart, or a smaller --ground"
        )


def _all_rows(frame: gpd.GeoDataFrame) -> str:
    return "the only row" if len(frame) == 1 else f"all {counted(len(frame), 'row')}"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
