"""Vector files of any of the usual formats: regions and labels are read here.

GDAL would open a file by what is in it, whatever its name: a ``.gpkg`` that holds the XML of a virtual layer leads to
other files and servers. So a file has to begin as its name says, and a zipped shapefile is unpacked by Python.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas as gpd
import pyarrow as pa
import pyogrio
from pyogrio.errors import DataSourceError

from geoml.errors import DataError, InputError
from geoml.io.tables import parquet_geometry
from geoml.io.tables.vector_files import PARQUET, STARTS, SUFFIXES, file_and_layer
from geoml.texts import listed

PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
"""Of a shapefile."""
HEAD = 2**16
"""Bytes that are looked at before GDAL opens a text: entities are declared in the beginning."""
UNPACKED = 2**30
"""Bytes of a zipped shapefile at most."""


def read(
    path: str | Path, layer: str | None = None, *, field: str = "labels", polygons: bool = False
) -> gpd.GeoDataFrame:
    """The features of one layer, with the file's CRS.

    ``path`` may name the layer behind a colon; one with a geometry has to be the only one where none is named, or the
    only one of ``polygons``. Raises
    InputError, naming ``field``, for a missing file, another format and a layer that is not there or one of several;
    DataError for a file that cannot be read.
    """
    text, named = file_and_layer(str(path))
    file, layer = Path(text), layer or named
    if "/vsi" in text or "\0" in text:
        raise InputError(f"{field}: {text!r} is no plain path; expected a file")
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{field}: {text} is no {', '.join(SUFFIXES[:-1])} file; expected one of these")
    if not file.is_file():
        raise InputError(f"{field}: {text} does not exist; expected a vector file")
    try:
        if file.suffix.lower() in PARQUET:
            frame = parquet_geometry.read(file)
        else:
            with _opened(file) as place:
                frame = gpd.read_file(place, layer=_layer(place, layer, text, field, polygons))
    except (OSError, DataSourceError, pa.ArrowException, ValueError, zipfile.BadZipFile) as err:
        if isinstance(err, InputError):
            raise
        raise DataError(f"{text}: cannot be read as vectors ({err})") from err
    if not isinstance(frame, gpd.GeoDataFrame):
        raise InputError(f"{field}: {text} has no geometry; expected points or polygons")
    return frame


def _layer(place: Path, layer: str | None, shown: str, field: str, polygons: bool) -> str:
    """The layer that is meant; ``shown`` is how the user names the file."""
    kinds = {str(name): str(kind) for name, kind in pyogrio.list_layers(place) if kind is not None}
    layers = [name for name, kind in kinds.items() if polygons and layer is None and "Polygon" in kind] or list(kinds)
    if not layers:
        raise InputError(f"{field}: {shown} has no layer with geometries; expected one of points or polygons")
    if layer is None and len(layers) > 1:
        raise InputError(f"layer: {shown} has {len(layers)} layers: {listed(layers)}; choose one, {shown}:{layers[0]}")
    if layer is not None and layer not in layers:
        raise InputError(f"layer: no {layer!r} in {shown}; it has {listed(layers)}")
    return layer or layers[0]


@contextmanager
def _opened(file: Path) -> Iterator[Path]:
    """What GDAL may open, once it begins as its name says."""
    kind = file.suffix.lower()
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind in STARTS:
        sound = head.startswith(STARTS[kind])
    elif kind == ".kml":
        sound = (
            text.startswith(b"<") and b"<kml" in text and b"<!" not in text.replace(b"<!--", b"").replace(b"<![", b"")
        )
    else:
        sound = text.startswith(b"{")
    if not sound:
        raise DataError(f"{file}: cannot be read as vectors (no {kind} file: it starts with {head[:16]!r})")
    if kind != ".zip":
        yield file
        return
    with TemporaryDirectory(prefix="geoml-") as folder:
        yield _unpacked(file, Path(folder))


def _unpacked(file: Path, folder: Path) -> Path:
    """The shapefile of an archive, under names of our own."""
    with zipfile.ZipFile(file) as archive:
        shapes = [n for n in archive.namelist() if n.lower().endswith(".shp") and not n.startswith("__MACOSX/")]
        if len(shapes) != 1:
            raise InputError(f"labels: {file} holds {len(shapes)} shapefiles; expected one")
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
