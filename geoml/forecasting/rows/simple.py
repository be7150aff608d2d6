"""Simple methods without a package: fitted on the table itself, up to the reference time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from geoml.errors import InputError, NothingFound
from geoml.forecasting.cards.forecast import CardPlace, ForecastCard
from geoml.forecasting.recipe import ForecastFrom, ForecastRunRecipe
from geoml.forecasting.rows.fitted import all_steps, fitted
from geoml.forecasting.rows.forecaster import TableForecaster
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.long_table import PlaceTable, columns_of, ids_of, place_columns, read_panel, read_places
from geoml.io.tables.table_source import PlaceFile, TableLayout
from geoml.nn.forecast.levels import LEVELS
from geoml.recipe import parse
from geoml.texts import listed

SIMPLE = ("persistence", "climatology", "damped", "ridge")
IDS, TIMES = (
    ("id", "station", "station_id", "place", "polygon", "name"),
    ("time", "datetime", "date", "valid_time", "year"),
)
DAYS, YEARS = 1, 5
"""History where none is asked for: so many days of steps, else so many steps."""


def layout_of(asked: ForecastFrom, path: Path) -> TableLayout:
    """How to read the table, from what was asked and the names of its columns. Raises InputError."""
    names = columns_of(path)

    def one_of(given: tuple[str, ...], usual: tuple[str, ...], field: str) -> tuple[str, ...]:
        found = given or tuple(n for n in usual if n in names)[:1]
        if not found:
            raise InputError(f"{field}: {path} has the columns {listed(names)}; choose one")
        return found

    ids, times = one_of(asked.id, IDS, "id"), one_of(asked.time, TIMES, "time")
    if asked.variable is None:
        others = [n for n in names if n not in (*ids, *times, "lon", "lat", "geometry")]
        if len(others) != 1:
            raise InputError(f"variable: {path} has {listed(others)}; choose the one to forecast")
        variable = others[0]
    else:
        variable = asked.variable
    if asked.step is None:
        raise InputError(f"step: not given for {path}; expected such as PT1H, P1D or P1Y")
    given = {"id": ids, "time": times, "zone": asked.zone, "label": asked.label}
    columns = [{"column": variable, "unit": asked.unit}]
    return parse(TableLayout, {**given, "step": asked.step, "variables": columns}, "forecast")


def places_asked(asked: ForecastFrom, path: Path, layout: TableLayout) -> PlaceTable | None:
    """Those of the file that was given, by the column that was said or that has most ids of the table; None without a
    file. Raises what `place_columns` and `read_places` raise."""
    if asked.places is None:
        return None
    file = Path(asked.places)
    columns = asked.places_id or place_columns(file, ids_of(path, layout.id), layout.id)
    return read_places(file, PlaceFile(path=str(file), id=columns))


def simple_model(
    asked: ForecastRunRecipe, path: Path, reference: pd.Timestamp
) -> tuple[TableForecaster, ForecastCard, PlaceTable]:
    """A model fitted on what is known at the reference time, its card and its places.

    Raises InputError if columns have to be said, NothingFound for too short a table, and what `read_panel` raises.
    """
    if not asked.leads:
        raise InputError(f"leads: none; {asked.model} has no package that says them, expected such as PT1H,PT3H")
    layout = layout_of(asked, path)
    panel = read_panel(path, layout, places_asked(asked, path, layout), until=reference)
    step = layout.duration
    usual = YEARS if step.months or step.seconds >= 86_400 else DAYS * 86_400 // step.seconds
    history = asked.history or usual
    leads = {StepDuration.parse(text, "leads").steps(step): text for text in asked.leads}
    steps = tuple(sorted(leads))
    last = panel.axis.last_known(reference)
    panel = panel.between(panel.first, max(last, panel.first))
    at = all_steps(panel, history, steps)
    if not len(at):
        raise NothingFound(f"table: {panel.values.shape[1]} steps up to the reference time; {asked.model} needs"
                           f" {history + steps[0]} with a history of {history}")  # fmt: skip
    lonlat = panel.places.lonlat
    card = ForecastCard(
        name=asked.model, description="fitted on the table up to the reference time", architecture=asked.model,
        table=layout, phase=panel.axis.phase, history=history, leads=tuple(leads[k] for k in steps), levels=LEVELS,
        config={"places": 0} if asked.model == "ridge" else {},
        places=tuple(CardPlace(id=n, lon=float(x), lat=float(y))
                     for n, (x, y) in zip(panel.places.ids, lonlat, strict=True)),
        bbox=tuple(float(v) for v in (*np.min(lonlat, 0), *np.max(lonlat, 0))),
    )  # fmt: skip
    found = fitted(card, panel, at)
    return found.forecaster.eval(), found.card, panel.places
