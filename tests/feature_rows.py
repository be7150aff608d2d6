"""Features of blocks as rows and frames, made as the end of a run makes them, for the tests of their tables."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import geopandas
import pandas as pd
import pyarrow as pa
import shapely

from geoml.grid.plane import Block
from geoml.io.cards.map_card import MapCard
from geoml.io.tables.features import FeatureRows, Labels, on_ground, outlined, simplified
from geoml.vector.merge import merged, shared, split
from geoml.vector.polygons import Features, Polygons


def features_of(parts: Iterable[tuple[Block, Polygons]]) -> list[Features]:
    """Whole features of traced blocks, row by row."""
    inside, edges = [], []
    for block, polygons in parts:
        inner, edge = split(block, shared(block, polygons))
        inside.append(inner)
        edges.append((block, edge))
    return [*inside, *merged(edges)]


def rows_of(
    batches: Iterable[Features], card: MapCard, times: tuple[dt.datetime, dt.datetime], *,
    min_area: float = 0.0, simplify: float = 0.0, rows: FeatureRows | None = None,
) -> pa.Table:  # fmt: skip
    """Rows of features, ordered by id; confidence is stored in steps of 1/250."""
    rows, labels = rows or FeatureRows(), Labels(card, "demo", times, 1 / 250, min_area)
    made = [rows.schema.empty_table()]
    for batch in simplified(batches, simplify) if simplify else map(outlined, batches):
        for some, ground in on_ground(batch):
            blocks = pa.array(some.blocks.tolist(), pa.list_(pa.string()))
            ground = rows.kept(labels.large(ground.append_column("blocks", blocks)))
            made.append(rows.made(labels.rows(ground, some.plane, ground["blocks"])))
    return pa.concat_tables(made).sort_by("id")


def frame_of(table: pa.Table) -> geopandas.GeoDataFrame:
    """Rows as geopandas has them, without the covering."""
    columns = {
        name: pd.Series(table[name].to_pylist(), dtype=object)
        if pa.types.is_nested(table[name].type) or pa.types.is_string(table[name].type)
        else table[name].to_pandas()
        for name in table.column_names
        if name not in ("bbox", "geometry")
    }
    geometry = shapely.from_wkb(table["geometry"].to_numpy())
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs="EPSG:4326")
