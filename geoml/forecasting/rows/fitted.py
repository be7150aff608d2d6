"""What is fitted on the times of a table in closed form: scaling, climatology, guesses and all simple methods."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import shapely
import torch
from numpy.typing import NDArray

from geoml.data.recipe import resolve
from geoml.errors import InputError, NothingFound
from geoml.forecasting.cards.forecast import CardPlace, ForecastCard
from geoml.forecasting.recipe import ForecastRecipe, TimeSplit
from geoml.forecasting.rows.calibrated import came_true
from geoml.forecasting.rows.forecaster import TableForecaster
from geoml.forecasting.rows.windows import Numbers, SeriesWindows
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.long_table import PlaceTable, TimePanel, read_panel, read_places
from geoml.io.tables.table_source import TableLayout, TableSource
from geoml.nn.forecast.calibration import conformal_shifts
from geoml.nn.forecast.estimated import EstimatedForecast

SHARED = (
    "name", "description", "license", "architecture", "history", "leads", "levels", "background", "guess", "futures",
    "fill",
)  # fmt: skip
"""Fields of a recipe that its card has too."""


class FittedTable(NamedTuple):
    """A panel, what was fitted on it, and its windows."""

    panel: TimePanel
    forecaster: TableForecaster
    windows: SeriesWindows
    card: ForecastCard


def read(recipe: ForecastRecipe) -> TimePanel:
    """The table of a recipe. Raises InputError for another source, and what `read_panel` and `read_places` raise."""
    source = recipe.source
    if not isinstance(source, TableSource):
        raise InputError("source: kind cube; expected a table")
    places = None
    if source.places is not None:
        places = read_places(resolve(source.places.path), source.places)
    return read_panel(resolve(source.path), source, places)


def card_of(recipe: ForecastRecipe, panel: TimePanel) -> ForecastCard:
    """The card before anything is fitted."""
    lonlat = panel.places.lonlat
    told = {name: getattr(recipe, name) for name in SHARED}
    steps = 0
    if recipe.rolling is not None and isinstance(recipe.source, TableSource):
        steps = StepDuration.parse(recipe.rolling, "rolling").steps(recipe.source.duration, "rolling")
    layout = TableLayout.model_validate({n: getattr(recipe.source, n) for n in TableLayout.model_fields})
    box = [float(v) for v in (*lonlat.min(0), *lonlat.max(0))]
    places = tuple(
        CardPlace(id=name, lon=float(x), lat=float(y)) for name, (x, y) in zip(panel.places.ids, lonlat, strict=True)
    )
    return ForecastCard(
        **told,
        config=dict(recipe.config),
        table=layout,
        rolling=steps,
        every=recipe.every,
        phase=panel.axis.phase,
        places=places,
        bbox=tuple(box),
    )


def places_of(card: ForecastCard) -> PlaceTable:
    """Where the places of a package lay in training."""
    lonlat = np.array([[p.lon, p.lat] for p in card.places])
    source = card.training.get("recipe", {}).get("source", {"places": ""})
    of_table = source.get("places") is None
    return PlaceTable(tuple(p.id for p in card.places), lonlat, shapely.points(lonlat), of_table)


def reference_steps(recipe: ForecastRecipe, panel: TimePanel, part: str, every: int = 1) -> Numbers:
    """Those of `all_steps` that are reference times of a part of the split."""
    at = all_steps(panel, recipe.history, recipe.steps)
    return at[within(recipe.split, part, panel.axis.time(at))][::every]


def all_steps(panel: TimePanel, history: int, leads: Sequence[int]) -> Numbers:
    """Steps of the panel up to which all may be known, with a whole history and one lead at least in it."""
    numbers = panel.numbers
    out: Numbers = numbers[(numbers >= panel.first + history - 1) & (numbers + leads[0] <= numbers[-1])]
    return out


def within(split: TimeSplit, part: str, times: pd.DatetimeIndex) -> NDArray[np.bool_]:
    """Which times lie in a part."""
    out = np.zeros(len(times), bool)
    for start, end in split.of(part):
        out |= np.asarray((times >= start) & (times <= end))
    return out


def fitted(card: ForecastCard, panel: TimePanel, at: Numbers) -> FittedTable:
    """All that is fitted in closed form, on reference steps and the values that they and their leads reach.

    Raises NothingFound without a target among them.
    """
    forecaster = TableForecaster(card)
    train = np.isin(panel.numbers, np.unique(np.concatenate([at, *(at + k for k in card.steps)])))
    if len(at):
        train |= (panel.numbers <= at[0]) & (panel.numbers > at[0] - card.history)
    forecaster.fit_scaling(panel, train)
    windows = forecaster.windows(panel)
    target = windows.targets(at)
    if not bool(torch.isfinite(target).any()):
        raise NothingFound("split: no known target after a reference time that trains")
    estimate(forecaster, windows, at)
    times = panel.axis.time(panel.numbers[train])
    said = {
        "trained": (times[0].isoformat(), times[-1].isoformat()),
        "times_sha256": hashed(panel, train),
    }
    return FittedTable(panel, forecaster, windows, card.model_copy(update=said))


def estimate(forecaster: TableForecaster, windows: SeriesWindows, at: Numbers) -> None:
    """Fit the guess, and the network where it is of the kind that needs no training."""
    target = windows.targets(at)
    if isinstance(forecaster.guess, EstimatedForecast):
        forecaster.guess.estimate(*windows.channels(at, background=forecaster.card.background), target)
    if isinstance(forecaster.network, EstimatedForecast):
        x, looks, *_ = forecaster.given(windows, at)
        forecaster.network.estimate(x, looks, target)


def calibrate(found: FittedTable, at: Numbers) -> None:
    """Shift the quantiles by their errors at reference steps that nothing was fitted on."""
    forecaster = found.forecaster
    raw, truth = forecaster.raw(found.windows, at), came_true(found.windows, at)
    season = forecaster.season(found.windows, at).repeat(len(found.card.places), 0)
    shifts = conformal_shifts(raw.reshape(-1, *raw.shape[2:]), truth, found.card.levels, season, found.card.seasons)
    forecaster.shifts.copy_(torch.from_numpy(shifts))


def hashed(panel: TimePanel, steps: NDArray[np.bool_]) -> str:
    """sha256 of the marked times and of the values at them."""
    found = hashlib.sha256(panel.axis.time(panel.numbers[steps]).tz_localize(None).to_numpy("datetime64[s]").tobytes())
    found.update(np.ascontiguousarray(panel.values[:, steps]).tobytes())
    return found.hexdigest()
