"""Features of a finished run in formats that every GDAL reads, copied from its GeoParquet row by row.

Many builds of GDAL, such as Debian's, have no Parquet. FlatGeobuf is one file that is read by ranges, GeoPackage one
that can be edited, PMTiles holds vector tiles for maps on the web. Lists become text with blanks between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
import shapely
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.stores.store import atomic
from geoml.io.tables.geoparquet import scratch

Format = Literal["parquet", "gpkg", "fgb", "pmtiles"]
DRIVERS: Final = {"gpkg": "GPKG", "fgb": "FlatGeobuf", "pmtiles": "PMTiles"}
TITLES: Final = {
    "gpkg": "the polygons as GeoPackage",
    "fgb": "the polygons as FlatGeobuf",
    "pmtiles": "the polygons as vector tiles (PMTiles), simplified by zoom",
}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "gpkg": {"dataset_options": {"VERSION": "1.2"}},  # later ones are news to QGIS 3.22
    "fgb": {},
    "pmtiles": {"dataset_options": {"MINZOOM": "0", "MAXZOOM": "14"}},
}
_BATCH = 20_000
"""Rows in memory."""
_DATE = "1970-01-01T00:00:00Z"
"""In the place of the time of writing, so that equal rows give equal bytes."""


def is_geoparquet(path: Path) -> bool:
    """True for a table with geometries. Raises DataError for a file that cannot be read."""
    return b"geo" in (_opened(path).schema_arrow.metadata or {})


def write_as(path: Path, kind: Format) -> Path:
    """Write the GeoParquet file ``path`` of polygons as another ``kind`` beside it, atomically; the new path.

    Raises DataError if it cannot be read or written.
    """
    target = path.with_suffix(f".{kind}")
    file = _opened(path)
    geo = json.loads(file.schema_arrow.metadata[b"geo"])["columns"]["geometry"]
    several = "MultiPolygon" in geo["geometry_types"]
    schema = pa.schema([_field(f) for f in file.schema_arrow if f.name != "bbox"])
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _DATE})
    try:
        with scratch(target) as folder:
            made = folder / target.name  # GDAL asks for the suffix
            rows = pa.RecordBatchReader.from_batches(schema, _batches(file, schema, several=several))
            pyogrio.write_arrow(
                rows, made, driver=DRIVERS[kind], layer=path.stem, geometry_name="geometry", crs="EPSG:4326",
                geometry_type="MultiPolygon" if several else "Polygon", **_OPTIONS[kind],
            )  # fmt: skip
            with atomic(target) as temporary:
                made.replace(temporary)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pa.ArrowException, RuntimeError) as err:
        raise DataError(f"{target}: not written ({err})") from err
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
    return target


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{path}: cannot be read ({err})") from err


def _field(field: pa.Field) -> pa.Field:
    """What GDAL's formats have instead of a column: no lists."""
    if field.name == "geometry":
        return pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
    return pa.field(field.name, pa.string() if pa.types.is_list(field.type) else field.type)


def _batches(file: pq.ParquetFile, schema: pa.Schema, *, several: bool) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(_BATCH):
        columns = []
        for field in schema:
            values = batch[field.name]
            if field.name == "geometry" and several:
                values = pa.array(_many(values.to_numpy(zero_copy_only=False)), pa.binary())
            elif pa.types.is_list(values.type):
                values = pc.binary_join(values.cast(pa.list_(pa.string())), " ")
            columns.append(values.cast(field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _many(wkb: NDArray[np.object_]) -> NDArray[np.object_]:
    """WKB of multipolygons: a layer has one type of geometry."""
    shapes = shapely.from_wkb(wkb)
    one = shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON
    shapes[one] = shapely.multipolygons(shapes[one], indices=np.arange(one.sum()))
    made: NDArray[np.object_] = shapely.to_wkb(shapes)
    return made
