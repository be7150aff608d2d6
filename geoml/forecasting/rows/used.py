"""The rows of a table that cycles can use: which reference times there are, and of what values each is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd

from geoml.engine.packages import cards
from geoml.errors import NothingFound
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.recipe import CycleRecipe
from geoml.forecasting.rows.calibrated import reach
from geoml.forecasting.rows.fitted import hashed, places_of
from geoml.forecasting.rows.simple import SIMPLE, layout_of, places_asked
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.long_table import read_panel
from geoml.recipe import digest


class UsedRows:
    """See `geoml.forecasting.cycles.look.Used`; the table is read when it is made, see `read_panel` for what is raised.

    A step is there when one of the places has a value of it.
    """

    left_out: dict[str, str]

    def __init__(self, asked: CycleRecipe, until: dt.datetime) -> None:
        path, now = Path(str(asked.table)), pd.Timestamp(until)
        self._ahead = None
        if asked.model in SIMPLE and asked.model not in cards.names():
            layout, self.sha256, self._reach, phase = layout_of(asked, path), "", None, None
            places = places_asked(asked, path, layout)
            steps = [StepDuration.parse(text, "leads").steps(layout.duration) for text in asked.leads]
        else:
            card = cards.read(asked.model, ForecastCard)
            layout, self.sha256, self._reach, phase = card.table, card.sha256, reach(card), card.phase
            places = places_of(card)
            steps = list(card.steps)
            if card.table.ahead:
                rest = layout.model_copy(update={"variables": card.table.ahead})
                self._ahead = read_panel(path, rest, places, phase=phase)
        self.panel = read_panel(path, layout, places, until=now, phase=phase)
        self.left_out = dict(self.panel.left_out)
        known = np.isfinite(self.panel.values[0]).any(1)
        if not known.any():
            raise NothingFound(f"table: no place of {path} has a value by {until:%FT%TZ}")
        times = self.panel.axis.time(self.panel.numbers)
        self._numbers = dict(zip(times.to_pydatetime(), self.panel.numbers.tolist(), strict=True))
        self.references = tuple(times[known].to_pydatetime())
        self.newest = self.references[-1]
        self._there = frozenset(self.references)
        self._longest = max(steps, default=1)
        ends = self.panel.axis.time(self.panel.numbers[-1:] + self._longest)
        self.longest = (ends[0] - times[-1]).to_pytimedelta()

    def number(self, time: dt.datetime) -> int:
        return int(self.panel.axis.last_known(pd.Timestamp(time)))

    def used(self, reference: dt.datetime) -> str:
        last = self.number(reference)
        first = self.panel.first if self._reach is None else last - self._reach + 1
        seen = self.panel.between(first, last)
        found = hashed(seen, np.ones(seen.values.shape[1], bool))
        if self._ahead is None:
            return found
        ahead = self._ahead.between(first, last + self._longest)
        return digest([found, hashed(ahead, np.ones(ahead.values.shape[1], bool))])

    def at(self, time: dt.datetime) -> str | None:
        n = self._numbers.get(time)
        if n is None or time not in self._there:
            return None
        row = self.panel.between(n, n)
        return hashed(row, np.ones(1, bool))

    def missing(self, reference: dt.datetime) -> list[dt.datetime]:
        """None: a place without a value says so in its own rows."""
        return []
