"""The rows of a file of geolocations, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def read(path: Path) -> list[dict[str, Any]]:
    """The rows without geometries and bounds."""
    table = pq.read_table(path, page_checksum_verification=True)
    made = [n for n in table.schema.names if n in ("geometry", "bbox") or n.endswith("_bbox")]
    rows: list[dict[str, Any]] = table.drop_columns(made).to_pylist()
    return rows
