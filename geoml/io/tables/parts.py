"""Polygons of one block on disk, until all blocks are there to be merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geoml.errors import DataError
from geoml.io.stores.store import atomic, check_regular
from geoml.vector.polygons import Polygons


def write_polygons(polygons: Polygons, path: Path) -> None:
    """Write polygons in pixel coordinates as Parquet, atomically. Raises DataError."""
    columns = {
        "geometry": pa.array(shapely.to_wkb(polygons.geometry), pa.binary()),
        "value": pa.array(polygons.value),
        "pixels": pa.array(polygons.pixels),
        "confidence_sum": pa.array(polygons.confidence_sum),
        "outside": pa.array(polygons.outside),
    }
    with atomic(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd", write_page_checksum=True)


def read_polygons(path: Path) -> Polygons:
    """What `write_polygons` wrote. Raises DataError for a missing or damaged file."""
    try:
        table = pq.read_table(check_regular(path), page_checksum_verification=True)
        return Polygons(
            geometry=np.asarray(shapely.from_wkb(table["geometry"].to_numpy()), dtype=object),
            value=table["value"].to_numpy(),
            pixels=table["pixels"].to_numpy(),
            confidence_sum=table["confidence_sum"].to_numpy(),
            outside=table["outside"].to_numpy() if "outside" in table.column_names else np.full(len(table), np.nan),
        )
    except (OSError, KeyError, pa.ArrowException, shapely.errors.ShapelyError) as err:
        raise DataError(f"{path}: polygons of a block are not readable ({err})") from err
