"""One forecast: a model, a table and a reference time in; ``rows.parquet``, ``run.json`` and ``report.html`` out."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from geoml.engine.packages import cards
from geoml.errors import DataError, InputError, NothingFound
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.recipe import ForecastRunRecipe, check_trained, lead_steps
from geoml.forecasting.rows.calibrated import answers, reach
from geoml.forecasting.rows.fitted import hashed, places_of
from geoml.forecasting.rows.forecaster import TableForecaster, load
from geoml.forecasting.rows.page import run_page
from geoml.forecasting.rows.simple import SIMPLE, simple_model
from geoml.forecasting.rows.windows import Numbers, SeriesWindows
from geoml.forecasting.rows.write import write_rows
from geoml.io.software import software
from geoml.io.stores.store import within, write_json, write_text
from geoml.io.tables.long_table import MOVED, Floats, PlaceTable, TimePanel, place_columns, read_panel, read_places
from geoml.io.tables.table_source import PlaceFile
from geoml.texts import counted, listed

ROWS, RECORD, PAGE, EXPLAINED = "rows.parquet", "run.json", "report.html", "explained.json"
FILES = {ROWS: "quantiles of each place and lead", PAGE: "a fan chart of each place", RECORD: "model, times, left out"}


@dataclass(frozen=True)
class TableForecast:
    """What a model says at a reference time: ``quantiles`` (place, lead, level) of the leads that were asked for.

    ``history`` (step, place) is what it saw of the target, at ``seen``.
    """

    card: ForecastCard
    places: PlaceTable
    leads: tuple[str, ...]
    valid: pd.DatetimeIndex
    quantiles: Floats
    history: Floats
    seen: pd.DatetimeIndex
    left_out: dict[str, str]
    used: str
    explained: dict[str, Any] | None

    @property
    def answered(self) -> list[int]:
        """Places with a known value in the history."""
        return [int(k) for k in np.flatnonzero(np.isfinite(self.history).any(0))]


def run(asked: ForecastRunRecipe, out: str | Path, version: int = 1) -> dict[str, Any]:
    """Write a forecast to the folder ``out``; what its ``run.json`` says. ``version`` goes to its rows.

    Raises InputError for a reference time in the future or between steps, leads that the model does not have,
    covariates that end before the longest lead, or a folder with other files; NothingFound if nothing is known at
    the reference time; and what reading the table and the package raises.
    """
    folder = _claim(out)
    reference = instant_of(asked.reference_time)
    started = dt.datetime.now(dt.UTC)
    if reference > pd.Timestamp(started):
        raise InputError(f"reference-time: {reference.isoformat()} is in the future; expected now or earlier")
    found = forecast(asked, reference)
    answered = found.answered
    if not answered:
        raise NothingFound(f"reference-time: no place has a value in the {found.card.history} steps up to it")
    rows = write_rows(
        within(folder, ROWS), found.card, found.places, answered, found.leads, reference, found.valid, found.quantiles,
        version,
    )  # fmt: skip
    silent = [name for k, name in enumerate(found.places.ids) if k not in set(answered)]
    ages = _ages(found)
    newest = len(found.history) - 1 - min(ages.values())
    warnings = []
    if silent:
        warnings.append(f"{counted(len(silent), 'place')} without a known value in the history, so without rows:"
                        f" {listed(silent, most=5)}")  # fmt: skip
    if age := min(ages.values()):
        warnings.append(
            f"the newest value is {counted(age, 'step')} of {found.card.table.step} older than the reference time"
        )
    if late := [name for name, steps in ages.items() if steps > age]:
        last = counted(max(ages.values()), "step")
        warnings.append(f"{counted(len(late), 'place')} without a value as new as that; the last one of the most"
                        f" outdated is {last} before the reference time: {listed(late, most=5)}")  # fmt: skip
    record = {
        "kind": "forecast", "model": found.card.name, "sha256": found.card.sha256,
        "variable": rows["variable"][0].as_py(),
        "reference_time": reference.isoformat(), "leads": list(found.leads), "places": len(answered), "rows": len(rows),
        "without_history": silent, "left_out": found.left_out, "newest_known": found.seen[newest].isoformat(),
        "age_seconds": int((reference - found.seen[newest]).total_seconds()),
        "levels": list(found.card.levels), "data_sha256": found.used, "recipe": asked.model_dump(mode="json"),
        "warnings": warnings, "versions": dict(software()), "domain": None,
        "backend": {"name": "torch", "precision": "fp32", "reason": "rows of a table", "proof": None},
        "files": {**FILES, **({EXPLAINED: "what the model attended to"} if found.explained is not None else {})},
    }  # fmt: skip
    write_text(within(folder, PAGE), run_page(found, reference, warnings))
    if found.explained is not None:
        write_json(within(folder, EXPLAINED), found.explained)
    record |= {"started": started.isoformat(), "finished": dt.datetime.now(dt.UTC).isoformat()}
    write_json(within(folder, RECORD), record)
    return record


def _ages(found: TableForecast) -> dict[str, int]:
    """Of each place that is answered, how many steps before the reference time its newest known value lies."""
    back = np.isfinite(found.history[::-1])
    return {found.places.ids[k]: int(back[:, k].argmax()) for k in found.answered}


def forecast(asked: ForecastRunRecipe, reference: pd.Timestamp) -> TableForecast:
    """What a model says at a reference time (UTC)."""
    if asked.table is None:
        raise InputError("table: not given; expected CSV or Parquet")
    path = Path(asked.table)
    module, card, places = _model(asked, path, reference)
    leads = asked.leads or card.leads
    if strange := [lead for lead in leads if lead not in card.leads]:
        raise InputError(f"leads: {listed(strange)}; {card.name} has {listed(card.leads)}")
    steps = dict(zip(card.leads, lead_steps(card.leads, card.table.duration), strict=True))
    leads = tuple(sorted(set(leads), key=lambda lead: steps[lead]))
    panel = read_panel(path, card.table, places, until=reference, phase=card.phase)
    last = panel.axis.last_known(reference)
    panel = panel.between(last - reach(card) + 1, last)
    windows = module.windows(panel, _ahead(path, card, places, panel))
    quantiles = answers(module, windows, np.array([last]))[0]
    used = hashed(panel, np.ones(panel.values.shape[1], bool))
    explained = _explained(module, windows, np.array([last]))
    panel = panel.between(last - card.history + 1, last)
    chosen = [card.leads.index(lead) for lead in leads]
    valid = panel.axis.time(last + np.array([steps[lead] for lead in leads]))
    unknown = panel.left_out.get("places without a position")
    left_out = {"places that the model does not know": unknown} if unknown else {}
    return TableForecast(
        card,
        places,
        leads,
        valid,
        quantiles[:, chosen],
        panel.values[0],
        panel.axis.time(panel.numbers),
        left_out,
        used,
        explained,
    )


@runtime_checkable
class Explained(Protocol):
    """A network that says what it looks at, as `geoml.models.tft.TemporalFusion` does."""

    def explain(self, x: Tensor, looks: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the variables of the past, and (lead, step) of the steps."""
        ...


def _explained(module: TableForecaster, windows: SeriesWindows, at: Numbers) -> dict[str, Any] | None:
    """Weights of each variable of the past and, for each lead, of each step that it looks at."""
    network, card = module.network, module.card
    if not isinstance(network, Explained):
        return None
    weights, attention = network.explain(*module.given(windows, at)[:2])
    names = [*(v.said for v in card.table.seen), *(["climatology"] if card.background else [])]
    steps = [f"-{card.history - 1 - k}" for k in range(card.history)] + list(card.leads)
    return {
        "importance": dict(zip(names, weights.tolist(), strict=True)),
        "steps": steps,
        "attention": dict(zip(card.leads, attention.tolist(), strict=True)),
    }


def instant_of(text: str) -> pd.Timestamp:
    """A time in UTC; without a zone it is. Raises InputError."""
    try:
        time = pd.Timestamp(text)
        return time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
    except (ValueError, TypeError, AttributeError) as err:  # the last one for NaT
        raise InputError(f"reference-time: {text!r}; expected RFC 3339 such as 2016-01-15T12:00:00Z") from err


def _model(
    asked: ForecastRunRecipe, path: Path, reference: pd.Timestamp
) -> tuple[TableForecaster, ForecastCard, PlaceTable]:
    if asked.model in SIMPLE and asked.model not in cards.names():
        return simple_model(asked, path, reference)
    check_trained(asked.model, cards.names(), SIMPLE)
    file = None if asked.places is None else Path(asked.places)
    torch.manual_seed(0)
    package = load(asked.model)
    own = places_of(package.card)
    if file is None:
        return package.module, package.card, own
    columns = asked.places_id or place_columns(file, own.ids, package.card.table.id)
    given = read_places(file, PlaceFile(path=str(file), id=columns))
    at = {name: k for k, name in enumerate(given.ids)}
    pairs = [(k, at[name]) for k, name in enumerate(own.ids) if name in at]
    moved = [own.ids[k] for k, j in pairs if np.abs(own.lonlat[k] - given.lonlat[j]).max() > MOVED]
    if moved:
        raise DataError(f"places: {len(moved)} have moved since training, {listed(moved, most=5)}; a station that"
                        " moved is another one")  # fmt: skip
    geometries = own.geometries.copy()
    for k, j in pairs:
        geometries[k] = given.geometries[j]
    return package.module, package.card, PlaceTable(own.ids, own.lonlat, geometries)


def _ahead(path: Path, card: ForecastCard, places: PlaceTable, panel: TimePanel) -> Floats | None:
    """What the table says of the leads, of variables that are known in advance. Raises InputError if it is short."""
    if not card.table.ahead:
        return None
    last = int(panel.numbers[-1]) + card.steps[-1]
    end = panel.axis.time(np.array([last]))[0]
    target = card.table.variables[0].column
    layout = card.table.model_copy(update={"variables": card.table.ahead})
    longer = read_panel(path, layout, places, until=end, phase=card.phase).between(panel.first, last)
    needed = np.array([int(panel.numbers[-1]) + step for step in card.steps]) - panel.first
    known = np.isfinite(panel.values[0][-card.history :]).any(0)
    for k, variable in enumerate(card.table.ahead):
        missing = ~np.isfinite(longer.values[k][needed][:, known])
        if missing.any():
            raise InputError(
                f"{variable.column}: {int(missing.sum())} values at the leads, which end at {end.isoformat()}, are not"
                f" in {path}; {target} is forecast from them"
            )
    return longer.values


def _claim(out: str | Path) -> Path:
    folder = Path(out)
    if folder.is_file():
        raise InputError(f"out: {folder} is a file; expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECORD).is_file():
        raise InputError(f"out: {folder} contains other files; expected an empty folder or one of an earlier run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"out: {folder} cannot be written ({err.strerror}); expected a writable folder") from err
    return folder
