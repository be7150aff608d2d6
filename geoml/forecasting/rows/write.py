"""Rows of a forecast as GeoParquet: one for each place and lead, by place and then by time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import shapely
from jaxtyping import Float
from numpy import ndarray

from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.rows.forecaster import mean_of
from geoml.io.tables.geoparquet import BBOX, bbox_column, write_in_order
from geoml.io.tables.long_table import PlaceTable

TIME = pa.timestamp("ms", tz="UTC")


def schema_of(levels: Sequence[float]) -> pa.Schema:
    """Columns of the rows; ``observed`` is null until it is known, ``version`` counts issues of one cycle."""
    numbers = [*(quantile_name(level) for level in levels), "mean", "observed"]
    return pa.schema(
        [
            ("place", pa.string()), ("reference_time", TIME), ("valid_time", TIME), ("lead", pa.string()),
            ("variable", pa.string()), ("unit", pa.string()), *((name, pa.float64()) for name in numbers),
            ("version", pa.int32()), ("bbox", BBOX), ("geometry", pa.binary()),
        ]
    )  # fmt: skip


def quantile_name(level: float) -> str:
    """``q05`` of 0.05; what is not a whole percent has more digits, ``q2.5`` of 0.025."""
    percent = round(100 * level, 6)
    return f"q{percent:02.0f}" if percent == int(percent) else f"q{percent:g}"


def write_rows(
    path: Path, card: ForecastCard, places: PlaceTable, answered: Sequence[int], leads: Sequence[str],
    reference: pd.Timestamp, valid: pd.DatetimeIndex, quantiles: Float[ndarray, "place lead level"],
    version: int = 1,
) -> pa.Table:  # fmt: skip
    """Write the rows of the places that are ``answered`` (by number); the table as written.

    Raises DataError if nothing can be written.
    """
    order = sorted(answered, key=lambda k: places.ids[k])
    count, ahead = len(order), len(leads)
    target = card.table.variables[0]
    those = quantiles[order].reshape(count * ahead, -1)
    shapes = places.geometries[order].repeat(ahead)
    columns = {
        "place": [places.ids[k] for k in order for _ in leads],
        "reference_time": [reference.to_pydatetime()] * (count * ahead),
        "valid_time": list(valid.to_pydatetime()) * count,
        "lead": [*leads] * count,
        "variable": [target.said] * (count * ahead),
        "unit": [target.unit or None] * (count * ahead),
        **{quantile_name(level): those[:, k] for k, level in enumerate(card.levels)},
        "mean": mean_of(those, card.levels),
        "observed": [None] * (count * ahead),
        "version": [version] * (count * ahead),
        "bbox": bbox_column(shapely.bounds(shapes).reshape(-1, 4)),
        "geometry": shapely.to_wkb(shapes, byte_order=1),
    }
    schema = schema_of(card.levels)
    about = {"variable": target.said, "unit": target.unit, "cf_name": target.cf_name, "model": card.name,
             "sha256": card.sha256}  # fmt: skip
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, schema.field(n).type) for n, v in columns.items()]
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"geoml": json.dumps(about)}))
    write_in_order(table, path)
    return table
