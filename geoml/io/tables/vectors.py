"""Vector files of any of the usual formats, and feature layers of ArcGIS: regions and labels are read here.

GDAL would open a file by what is in it, whatever its name: a ``.gpkg`` that holds the XML of a virtual layer leads to
other files and servers. So a file has to be what its name says before GDAL sees it: binary ones begin so, JSON and XML
are read to their end. GDAL gets the driver of JSON by name and of KML a copy of what it needs; a zipped shapefile is
unpacked by Python.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import pyogrio

from geoml.errors import DataError, GeomlError, InputError
from geoml.io.arcgis import feature_layer
from geoml.io.arcgis.service import is_features
from geoml.io.stores.hrefs import redact
from geoml.io.tables import kml, parquet_geometry
from geoml.io.tables.vector_files import PARQUET, STARTS, SUFFIXES, file_and_layer
from geoml.texts import listed

PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
"""Of a shapefile."""
GEOJSON = frozenset(
    (
        *("FeatureCollection", "Feature", "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon"),
        *("MultiPolygon", "GeometryCollection"),
    )
)
"""Types of RFC 7946."""
READERS = {".gpkg": ("GPKG",), ".fgb": ("FlatGeobuf",), ".kml": ("LIBKML", "KML")}
READERS |= dict.fromkeys((".geojson", ".json"), ("GeoJSON",))
"""Drivers of GDAL; shapefiles have theirs else."""
UNPACKED = 2**30
"""Bytes of a zipped shapefile at most."""


def read(
    path: str | Path, layer: str | None = None, *, field: str = "labels", polygons: bool = False
) -> gpd.GeoDataFrame:
    """The features of one layer, with the CRS of the file or service.

    ``path`` is a file, which may name the layer behind a colon, or the URL of an ArcGIS feature layer. A layer with a
    geometry has to be the only one where none is named, or the only one of ``polygons``. Raises InputError, naming
    ``field``, for a missing file, another format and a layer that is not there or one of several; DataError for a file
    that cannot be read; TransientError for a server that does not answer.
    """
    if is_features(str(path)):
        return _feature_layer(str(path), layer, field)
    text, named = file_and_layer(str(path))
    file, layer = Path(text), layer or named
    if "/vsi" in text or "\0" in text:
        raise InputError(f"{field}: {text!r} is not a plain path; expected a file")
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{field}: {text} is not a {', '.join(SUFFIXES[:-1])} file; expected one of these")
    if not file.is_file():
        raise InputError(f"{field}: {text} does not exist; expected a vector file")
    if layer is not None and file.suffix.lower() in PARQUET:
        raise InputError(f"layer: no {layer!r} in {text}; Parquet has no layers")
    try:
        if file.suffix.lower() in PARQUET:
            frame = parquet_geometry.read(file)
        else:
            with _opened(file, field) as place:
                chosen = _layer(place, layer, text, field, polygons)
                frame = gpd.read_file(place, layer=chosen)
    except GeomlError:
        raise
    except Exception as err:  # GDAL, shapely, pyarrow, zipfile, expat and json each have their own
        raise DataError(f"{text}: cannot be read as vectors ({err})") from err
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(f"{field}: {text} has no geometry; expected points or polygons")
    return frame


def _feature_layer(url: str, layer: str | None, field: str) -> gpd.GeoDataFrame:
    try:
        return feature_layer.read(url, layer, field)
    except GeomlError:
        raise
    except Exception as err:  # JSON of another form; GDAL has its own
        raise DataError(f"{redact(url)}: cannot be read as a feature layer ({type(err).__name__}: {err})") from err


def _layer(place: str, layer: str | None, shown: str, field: str, polygons: bool) -> str:
    """The layer that is meant; ``shown`` is how the user names the file."""
    kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(place) if kind is not None}
    layers = [name for name, kind in kinds.items() if polygons and layer is None and "Polygon" in kind] or list(kinds)
    if not layers:
        raise InputError(f"{field}: {shown} has no layer with geometries; expected one of points or polygons")
    if layer is None and len(layers) > 1:
        raise InputError(f"layer: {shown} has {len(layers)} layers: {listed(layers)}; choose one, {shown}:{layers[0]}")
    if layer is not None and layer not in layers:
        raise InputError(f"layer: no {layer!r} in {shown}; it has {listed(layers)}")
    reader = str(pyogrio.read_info(place, layer=layer or layers[0])["driver"])
    if reader not in READERS.get(Path(place).suffix.lower(), ("ESRI Shapefile",)):
        raise DataError(f"{shown}: cannot be read as vectors (it is one of {reader}, which its name does not say)")
    return layer or layers[0]


@contextmanager
def _opened(file: Path, field: str) -> Iterator[str]:
    """What GDAL may open, once it is what its name says."""
    kind = file.suffix.lower()
    if kind in (".geojson", ".json"):
        _check_geojson(file)
        yield f"GeoJSON:{file.absolute()}"
        return
    if kind in STARTS:
        with file.open("rb") as stream:
            head = stream.read(len(STARTS[kind]))
        if head != STARTS[kind]:
            raise DataError(f"{file}: cannot be read as vectors (no {kind} file: it starts with {head!r})")
    if kind not in (".zip", ".kml"):
        yield str(file.absolute())
        return
    with TemporaryDirectory(prefix="geoml-") as folder:
        name = f"{file.stem}.kml"
        yield str(_unpacked(file, Path(folder), field) if kind == ".zip" else kml.copied(file, Path(folder) / name))


def _check_geojson(file: Path) -> None:
    """Raise DataError for JSON of another type, and what json raises."""
    with file.open(encoding="utf-8-sig") as stream:
        value = json.load(stream)
    found = value.get("type") if isinstance(value, dict) else None
    if not isinstance(found, str) or found not in GEOJSON:
        raise DataError(
            f"{file}: cannot be read as vectors (its type is {str(found)[:40]!r}; expected GeoJSON, such as"
            " FeatureCollection)"
        )


def _unpacked(file: Path, folder: Path, field: str) -> Path:
    """The shapefile of an archive, under names of our own."""
    with zipfile.ZipFile(file) as archive:
        shapes = [n for n in archive.namelist() if n.lower().endswith(".shp") and not n.startswith("__MACOSX/")]
        if len(shapes) != 1:
            raise InputError(f"{field}: {file} holds {len(shapes)} shapefiles; expected one")
        stem = shapes[0][: -len(".shp")]
        parts = [i for i in archive.infolist() if i.filename[: len(stem)] == stem and _end(i, stem) in PARTS]
        if (size := sum(i.file_size for i in parts)) > UNPACKED:
            raise DataError(f"{file}: {size} bytes unpacked; at most {UNPACKED} are read")
        for info in parts:
            with archive.open(info) as source:
                (folder / f"layer{_end(info, stem)}").write_bytes(source.read(UNPACKED))
    return folder / "layer.shp"


def _end(info: zipfile.ZipInfo, stem: str) -> str:
    return info.filename[len(stem) :].lower()
