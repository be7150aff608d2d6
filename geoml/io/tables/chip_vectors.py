"""Chips of a map of embeddings as GeoParquet 1.1: a row for each, with the mean of what is stored of its pixels.

``vector`` is float16 in the numbers of the COG, so that means keep what int8 would round; scale and offset of each of
its numbers are in the metadata of the file, key ``geoml:embedding``, beside the side of a chip in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.stores.store import check_regular
from geoml.io.tables.geoparquet import BBOX

ABOUT = b"geoml:embedding"
_TIME = pa.timestamp("us", tz="UTC")


def chip_schema(width: int, about: Mapping[str, Any]) -> pa.Schema:
    """Of chips with vectors of ``width`` numbers.

    id (plane, side, row and column), plane (its code), row and col on the lattice of chips, pixels (with data), valid
    (their share, 0 to 1), vector, model, start_datetime, end_datetime (of the data of the run), bbox, geometry.
    """
    types = {
        "id": pa.string(),
        "plane": pa.string(),
        "row": pa.int64(),
        "col": pa.int64(),
        "pixels": pa.int32(),
        "valid": pa.float32(),
        "vector": pa.list_(pa.float16(), width),
        "model": pa.string(),
        "start_datetime": _TIME,
        "end_datetime": _TIME,
        "bbox": BBOX,
        "geometry": pa.binary(),
    }
    return pa.schema(types, metadata={ABOUT: json.dumps({"width": width, **about}, sort_keys=True)})


@dataclass(frozen=True, eq=False)
class ChipVectors:
    """The rows of a table without vectors, ``vectors`` (n, width) float16, and what its metadata say."""

    rows: pa.Table
    vectors: NDArray[np.float16]
    about: Mapping[str, Any]


def read_chips(path: Path) -> ChipVectors:
    """Read a table of chips. Raises DataError for one that is missing, damaged or of something else."""
    try:
        table = pq.read_table(check_regular(path), page_checksum_verification=True)
        about = json.loads((table.schema.metadata or {})[ABOUT])
        column = table["vector"].combine_chunks()
        width = int(about["width"])
        vectors = column.flatten().to_numpy().reshape(len(table), width)
        if vectors.dtype != np.float16 or about["chip"] < 1 or {"id", "row", "col", "plane"} - set(table.column_names):
            raise DataError(f"{path}: no chips of embeddings")
    except (OSError, LookupError, ValueError, TypeError, RecursionError, pa.ArrowException) as err:
        raise DataError(f"{path}: chips of embeddings are not readable ({err})") from err
    return ChipVectors(table.drop_columns(["vector"]), vectors, about)
