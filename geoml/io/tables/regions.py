"""Region files, of any format of `geoml.io.tables.vectors`, to one multipolygon in degrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import shapely
from shapely.geometry import MultiPolygon, Polygon, shape
from shapely.geometry.base import BaseGeometry

from geoml.errors import InputError
from geoml.grid.region import from_geometry
from geoml.io.arcgis.service import is_features
from geoml.io.stores.hrefs import check_url, redact
from geoml.io.stores.remote import fetch, is_url
from geoml.io.tables.vector_files import SUFFIXES, file_and_layer

MAX_BYTES = 2**30
"""Of a region that is fetched from elsewhere."""

_LONGEST = 1 / 64
"""Edges longer than this share of the extent are split before they are reprojected, so that they bend."""


def load_region(path: str) -> MultiPolygon:
    """The polygons of a file, by its path or URL, or of GeoJSON text, in EPSG:4326, split at the antimeridian.

    ``.geojson``/``.json`` (a geometry, a Feature, a FeatureCollection or an item), or another of
    `geoml.io.tables.vectors`; ``FILE:LAYER`` of a file with several layers; or the URL of an ArcGIS feature layer.
    Raises InputError for a missing file, another format, no CRS, or anything that is not a polygon; DataError and
    TransientError for a server.
    """
    if path.lstrip().startswith("{"):
        return _inline(path)
    check_url(path, "region")
    if is_features(path):
        geometries, crs = _vectors(path, None)
        return from_geometry(_in_degrees(_only_polygons(geometries, redact(path)), crs, redact(path)))
    path, layer = file_and_layer(path)
    href, url = path, is_url(path)
    file, path = Path(urlsplit(href).path if url else href), redact(href) if url else href
    kind = file.suffix.lower()
    if kind not in SUFFIXES or (url and kind == ".shp"):
        raise InputError(f"region: {path!r}; expected a {', '.join(SUFFIXES)} file (a shapefile by URL as .zip)")
    if layer is not None and kind in (".geojson", ".json"):
        raise InputError(f"layer: no {layer!r} in {path}; GeoJSON has no layers")
    if url:
        file = fetch(href, "region", MAX_BYTES)
    if not file.is_file():
        raise InputError(f"region: {path!r} is not a file")
    try:
        geometries, crs = _geojson(file) if kind in (".geojson", ".json") else _vectors(file, layer)
    except InputError:
        raise
    except Exception as err:  # GDAL, pyarrow and json each have their own
        raise InputError(f"region: {path!r} cannot be read ({err})") from err
    return from_geometry(_in_degrees(_only_polygons(geometries, path), crs, path))


def _inline(text: str) -> MultiPolygon:
    try:
        geometries, crs = _of_geojson(json.loads(text))
    except Exception as err:  # shapely and json each have their own
        raise InputError(f"region: not GeoJSON ({err}); expected polygons, or a file") from err
    return from_geometry(_in_degrees(_only_polygons(geometries, "the GeoJSON"), crs, "the GeoJSON"))


def _geojson(file: Path) -> tuple[list[BaseGeometry], object]:
    value = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(value, dict):
        raise InputError(f"region: {str(file)!r} is not a GeoJSON object")
    return _of_geojson(value)


def _of_geojson(value: dict[str, Any]) -> tuple[list[BaseGeometry], object]:
    crs = ((value.get("crs") or {}).get("properties") or {}).get("name")  # GeoJSON 2008, still written by some
    parts = value["features"] if value.get("type") == "FeatureCollection" else [value]
    geometries = [p.get("geometry") if p.get("type") == "Feature" else p for p in parts]
    return [shape(g) for g in geometries if g is not None], crs or "OGC:CRS84"


def _vectors(file: str | Path, layer: str | None) -> tuple[list[BaseGeometry], object]:
    from geoml.io.tables import vectors  # GDAL and pandas, which a region of GeoJSON does without

    frame = vectors.read(file, layer, field="region", polygons=True)
    return [g for g in frame.geometry if g is not None and not g.is_empty], frame.crs


def _only_polygons(geometries: list[BaseGeometry], path: str) -> MultiPolygon:
    parts: list[BaseGeometry] = []
    for geometry in geometries:
        inner = list(shapely.get_parts(shapely.get_parts(geometry)))  # a collection may hold multipolygons
        if any(not isinstance(p, Polygon) for p in inner):
            raise InputError(f"region: {path!r} contains a {geometry.geom_type}; expected polygons only")
        parts += inner
    if not parts:
        raise InputError(f"region: {path!r} contains no polygon")
    return MultiPolygon([p for p in shapely.force_2d(parts) if not p.is_empty])


def _in_degrees(region: MultiPolygon, crs: object, path: str) -> MultiPolygon:
    import pyproj

    if crs is None:
        raise InputError(f"region: {path!r} has no CRS; expected one, such as EPSG:4326")
    try:
        source = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as err:
        raise InputError(f"region: {path!r} has an unknown CRS ({crs})") from err
    if source.equals("EPSG:4326") or source.equals("OGC:CRS84"):
        return region
    west, south, east, north = region.bounds
    to = pyproj.Transformer.from_crs(source, "EPSG:4326", always_xy=True)
    dense = shapely.segmentize(region, max(east - west, north - south) * _LONGEST)
    return shapely.transform(dense, to.transform, interleaved=False)
