"""Labels on a pixel grid: a pixel belongs to a polygon when its centre does; points label discs of a radius."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import Field
from pyproj.exceptions import CRSError
from shapely.geometry.base import BaseGeometry

from geoml.data.recipe import resolve_vectors
from geoml.data.target import Target
from geoml.errors import DataError, InputError
from geoml.grid.region import polygonal, utm_crs
from geoml.io.tables import csv_rows, vectors
from geoml.recipe import Frozen, Place
from geoml.texts import listed


class VectorLabels(Frozen):
    """Polygons of a vector file that carry a class."""

    name: str = Field(default="labels", description="name used by a split by label file")
    file: Place = Field(
        description="GeoJSON, GeoPackage, shapefile (or zipped), FlatGeobuf, KML or GeoParquet; FILE:LAYER of several;"
        " or the URL of an ArcGIS feature layer"
    )
    field: str | None = Field(
        default=None, description="property with the class value or name; None: every label has the class `value`"
    )
    values: dict[str, int] = Field(default_factory=dict, description="value of the property -> class value")
    value: int = Field(default=1, description="class value of every polygon if there is no field")
    buffer: float = Field(default=0.0, ge=0, description="metres around points and lines; polygons are not buffered")


def discs(points: NDArray[np.float64], shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    """(y,x) bool: centres at most ``radius`` pixels from any of the (n,2) points (x, y; 0,0 is the outer corner)."""
    hit = np.zeros(shape, np.bool_)
    reach = int(np.ceil(radius)) + 1
    for x, y in points:
        c0, c1 = max(0, int(np.floor(x)) - reach), min(shape[1], int(np.floor(x)) + reach + 1)
        r0, r1 = max(0, int(np.floor(y)) - reach), min(shape[0], int(np.floor(y)) + reach + 1)
        if c0 >= c1 or r0 >= r1:
            continue
        dx = np.arange(c0, c1) + 0.5 - x
        dy = np.arange(r0, r1) + 0.5 - y
        hit[r0:r1, c0:c1] |= dx[None, :] ** 2 + dy[:, None] ** 2 <= radius**2
    return hit


def read_points(path: Path, geobox: GeoBox | None) -> NDArray[np.float64]:
    """(n,2) pixel coordinates x, y of a CSV with columns x,y (pixel indices: the centre is + 0.5) or a GeoJSON.

    GeoJSON coordinates are in the CRS that the file names, or that of the image. Raises DataError.
    """
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _listed(path)
    if geobox is None:
        raise DataError(f"{path}: GeoJSON points need an image with a georeference")
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
        xy = [f["geometry"]["coordinates"][:2] for f in value["features"] if f["geometry"]["type"] == "Point"]
        points = np.array(xy, np.float64).reshape(-1, 2)
        frame = gpd.GeoSeries(gpd.points_from_xy(*points.T), crs=_named_crs(value, geobox)).to_crs(str(geobox.crs))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, CRSError) as err:
        raise DataError(f"{path}: no points could be read ({type(err).__name__}: {err})") from err
    back, x, y = ~geobox.affine, frame.x.to_numpy(), frame.y.to_numpy()
    return _finite(np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], 1), path)


def _listed(path: Path) -> NDArray[np.float64]:
    """The centres of the pixels in the columns x and y of a list."""
    try:
        with csv_rows.table(path) as (names, rows):
            by = {name.lower(): name for name in names}
            if not {"x", "y"} <= by.keys():
                raise DataError(f"{path}: has the columns {listed(names)}; expected x and y")
            xy = [[csv_rows.number(row[by[axis]]) + 0.5 for axis in "xy"] for row in rows]
    except (*csv_rows.ERRORS, ValueError) as err:
        raise DataError(f"{path}: no points could be read ({type(err).__name__}: {err})") from err
    return _finite(np.array(xy, np.float64).reshape(-1, 2), path)


def _finite(points: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """The points. Raises DataError for one that is nowhere."""
    lost = np.flatnonzero(~np.isfinite(points).all(1))
    if lost.size:
        raise DataError(f"{path}: point {lost[0] + 1} has no finite x and y")
    return points


def _named_crs(value: dict[str, object], geobox: GeoBox) -> str:
    """The CRS of an old-style GeoJSON (GeoJSON 2008 ``crs`` member) or that of the image."""
    member = value.get("crs")
    if isinstance(member, dict):
        name = str(member.get("properties", {}).get("name", ""))
        if name:
            return name
    return str(geobox.crs)


def read_all(specs: Sequence[VectorLabels], kind: Target) -> list[gpd.GeoDataFrame]:
    """`read_polygons` of every file. What is wrong with any of them is raised together, as the class of the first."""
    found: list[gpd.GeoDataFrame] = []
    wrong: list[InputError | DataError] = []
    for spec in specs:
        try:
            found.append(read_polygons(spec, kind))
        except (InputError, DataError) as err:
            wrong.append(err)
    if wrong:
        raise type(wrong[0])(listed(wrong, joined="; ")) from wrong[0]
    return found


def read_polygons(spec: VectorLabels, kind: Target) -> gpd.GeoDataFrame:
    """Polygons of a vector file with a column ``label``, in the file's CRS.

    Points and lines become polygons when ``buffer`` > 0. Raises DataError for a file that cannot be read, InputError
    for a field or a value that the recipe does not explain.
    """
    path = resolve_vectors(spec.file)
    frame = vectors.read(path)
    if frame.crs is None:
        raise DataError(f"{path}: has no CRS")
    frame = frame[~frame.geometry.isna() & ~frame.geometry.is_empty].reset_index(drop=True)
    frame = frame.set_geometry(shapely.force_2d(frame.geometry.to_numpy()), crs=frame.crs)
    flat = frame.geom_type.isin(["Polygon", "MultiPolygon"])
    if not flat.all():
        if spec.buffer <= 0:
            raise InputError(
                f"labels {spec.name}: {int((~flat).sum())} geometries without area; set `buffer` in metres"
            )
        frame.loc[~flat, "geometry"] = _buffered(frame.geometry[~flat], spec.buffer)
    broken = ~frame.geometry.is_valid
    frame.loc[broken, "geometry"] = polygonal(shapely.make_valid(frame.geometry[broken].to_numpy()))
    frame = frame[~frame.geometry.is_empty].reset_index(drop=True)  # a ring without ground
    if spec.field is not None and spec.field not in frame.columns:
        have = [c for c in frame.columns if c != "geometry"]
        raise InputError(f"labels {spec.name}: no field {spec.field!r} in {spec.file}; it has {have}")
    found = kind.of_properties(spec, None if spec.field is None else frame[spec.field].tolist(), len(frame))
    return gpd.GeoDataFrame({"label": found}, geometry=frame.geometry, crs=frame.crs)


def _buffered(shapes: gpd.GeoSeries, metres: float) -> gpd.GeoSeries:
    """Discs and strips, each in the UTM zone of its own place: a file may hold labels of all continents."""
    at = shapes.to_crs(4326).representative_point()
    zone = np.array([utm_crs(x, y) for x, y in zip(at.x, at.y, strict=True)])
    found = shapes.copy()
    for crs in np.unique(zone).tolist():
        found[zone == crs] = shapes[zone == crs].to_crs(crs).buffer(metres).to_crs(shapes.crs)
    return found


def features(frame: gpd.GeoDataFrame) -> list[tuple[BaseGeometry, float]]:
    """Each geometry with its label, as a `Target` takes them."""
    return list(zip(frame.geometry, frame["label"], strict=True))
