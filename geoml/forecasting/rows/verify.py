"""What came true of a forecast of a table: its rows with what was observed since, and scores by lead."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from geoml.errors import DataError, InputError
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.forecasting.rows.forecaster import ForecastPackage, TableForecaster, load
from geoml.forecasting.rows.run import RECORD, ROWS, instant_of
from geoml.forecasting.rows.simple import SIMPLE, layout_of
from geoml.forecasting.rows.write import quantile_name
from geoml.io.stores.store import read_small, within
from geoml.io.tables.geoparquet import write_in_order
from geoml.io.tables.long_table import Floats, PlaceTable, TimePanel, read_panel
from geoml.io.tables.verification import lead_row
from geoml.nn.forecast.scores import LeadScores
from geoml.recipe import parse


def verified(run: Path, table: str | None = None) -> list[dict[str, Any]]:
    """A row of each lead; ``observed`` of ``rows.parquet`` is filled in. ``table`` is where the values lie now.

    Raises InputError for a folder that is not a forecast of a table, DataError for rows that cannot be read, and what
    reading the table raises.
    """
    record = json.loads(read_small(run / RECORD) or b"{}")
    if record.get("kind") != "forecast":
        raise InputError(f"run: {run} contains no forecast; expected a folder that geoml forecast wrote")
    asked = parse(ForecastRunRecipe, record["recipe"], str(run))
    try:
        rows = pq.read_table(run / ROWS)
    except (OSError, pa.ArrowException) as err:
        raise DataError(f"{run / ROWS}: cannot be read ({err})") from err
    reference = instant_of(asked.reference_time)
    package = None if asked.model in SIMPLE else load(asked.model)
    panel = _panel(asked, Path(table or str(asked.table)), rows, package)
    observed = _at(panel, rows["place"].to_pylist(), rows["valid_time"].to_pandas())
    column = rows.schema.get_field_index("observed")
    filled = pa.array(observed, pa.float64(), mask=~np.isfinite(observed))
    write_in_order(rows.set_column(column, rows.schema.field("observed"), filled), within(run, ROWS))
    simple = {"persistence": _at(panel, rows["place"].to_pylist(), pd.Series([reference] * len(rows)))}
    if package is not None:
        simple["climatology"] = _usual(package.module, rows)
    levels = record["levels"]
    quantiles = np.stack([rows[quantile_name(q)].to_numpy() for q in levels], 1)
    leads = np.array(rows["lead"].to_pylist())
    found = []
    for lead in record["leads"]:
        mine = leads == lead
        scores = _scored(lead, levels, quantiles[mine], observed[mine])
        maes = {k: _scored(lead, (0.5,), values[mine][:, None], observed[mine])["mae"] for k, values in simple.items()}
        valid = rows["valid_time"].to_pandas()[mine]
        about = {
            "model": record["model"], "variable": record["variable"], "unit": rows["unit"][0].as_py(),
            "reference_time": reference.to_pydatetime(), "valid_time": valid.iloc[0].to_pydatetime(), "lead": lead,
        }  # fmt: skip
        found.append(lead_row(about, scores, maes))
    return found


def _scored(lead: str, levels: Sequence[float], quantiles: Floats, truth: Floats) -> dict[str, Any]:
    """Of (place, level) quantiles."""
    scores = LeadScores((lead,), levels)
    scores.update(quantiles[:, None], truth[:, None])
    return dict(scores.compute()["leads"][lead])


def _usual(module: TableForecaster, rows: pa.Table) -> Floats:
    """The climatology of the package at each row."""
    times = pd.DatetimeIndex(rows["valid_time"].to_pandas()).tz_convert(dt.UTC)
    place = {p.id: k for k, p in enumerate(module.card.places)}
    usual = module.physical(module.climatology.at(times))
    return usual[np.arange(len(rows)), [place[name] for name in rows["place"].to_pylist()]]


def _panel(asked: ForecastRunRecipe, path: Path, rows: pa.Table, package: ForecastPackage | None) -> TimePanel:
    """The table with the places of the rows."""
    shapes = dict(zip(rows["place"].to_pylist(), shapely.from_wkb(rows["geometry"].to_pylist()), strict=True))
    geometries = np.array(list(shapes.values()), object)
    lonlat = np.stack([shapely.get_x(shapely.centroid(geometries)), shapely.get_y(shapely.centroid(geometries))], 1)
    places = PlaceTable(tuple(shapes), lonlat, geometries)
    if package is None:
        return read_panel(path, layout_of(asked, path), places)
    return read_panel(path, package.card.table, places, phase=package.card.phase)


def _at(panel: TimePanel, names: list[str], times: pd.Series) -> Floats:
    """The target of each place at each time, NaN where it is not known."""
    step = {t: k for k, t in enumerate(panel.axis.time(panel.numbers))}
    place = {name: k for k, name in enumerate(panel.places.ids)}
    values, stamps = panel.values[0], pd.DatetimeIndex(times).tz_convert(dt.UTC)
    known = [(step.get(t), place.get(n)) for t, n in zip(stamps, names, strict=True)]
    return np.array([np.nan if None in pair else values[pair] for pair in known], np.float64)
