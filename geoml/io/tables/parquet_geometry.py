"""Geometries of Parquet files: GeoParquet, and the native types GEOMETRY and GEOGRAPHY, which need no ``geo`` key.

Parquet has had the two since version 2.11 of its format (https://parquet.apache.org/docs/file-format/types/geospatial/).
GeoPandas reads GeoParquet only, so files of DuckDB, Iceberg and others that write no ``geo`` key are read here.
"""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import pyarrow.parquet as pq
import shapely

from geoml.errors import InputError

CRS84 = "OGC:CRS84"


def read(path: str | Path) -> gpd.GeoDataFrame:
    """The rows of a file with their geometries. Raises InputError for one without, and what pyarrow raises."""
    with pq.ParquetFile(path) as file:
        if b"geo" in (file.metadata.metadata or {}):
            return gpd.read_parquet(path)
        if (column := native(file)) is None:
            raise InputError(
                f"{str(path)!r} has neither a geo key nor a column of type GEOMETRY; write it as GeoParquet, such as "
                "with GeoDataFrame.to_parquet"
            )
        name, crs = column
        frame = file.read().to_pandas()
    return gpd.GeoDataFrame(frame, geometry=shapely.from_wkb(frame.pop(name).to_numpy()), crs=crs)


def native(file: pq.ParquetFile) -> tuple[str, str | None] | None:
    """(the first column of a native type, its CRS as pyproj takes it); None for a file without one."""
    schema, metadata = file.schema, file.metadata.metadata or {}
    for number in range(len(schema.names)):
        column = schema.column(number)
        kind = json.loads(column.logical_type.to_json() or "{}")
        if kind.get("Type") in ("Geometry", "Geography") and "." not in column.path:
            return column.name, _crs(str(kind.get("crs") or ""), metadata)
    return None


def _crs(text: str, metadata: dict[bytes, bytes]) -> str | None:
    """A CRS as Parquet writes it: nothing, PROJJSON or the key of some, ``srid:N``, a name; None for lost PROJJSON."""
    kind, _, rest = text.partition(":")
    if kind == "projjson":
        text = metadata.get(rest.encode(), b"").decode("utf-8", "replace")
        return text or None
    number = rest if kind == "srid" else text
    return f"EPSG:{number}" if number.isdecimal() else text or CRS84
