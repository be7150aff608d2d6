"""How far quantiles are shifted: by errors of the times that calibrate, or of the days before each reference time.

The errors of the days before are known at the reference time: a forecast of a day ago has come true by then. As the
year goes on its quantiles follow; I. Gibbs and E. Candès (2021), https://arxiv.org/abs/2106.00170, say why one has to.
"""

from __future__ import annotations

import numpy as np

from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.rows.forecaster import TableForecaster
from geoml.forecasting.rows.windows import Numbers, SeriesWindows
from geoml.io.tables.long_table import Floats
from geoml.nn.forecast.calibration import conformal_shifts
from geoml.nn.forecast.estimated import EstimatedForecast

ENOUGH = 0.5
"""Share of the errors that there can be: with fewer the shifts of the card count."""


def answers(forecaster: TableForecaster, windows: SeriesWindows, at: Numbers) -> Floats:
    """(time, place, lead, level) calibrated quantiles, in the unit of the target; they never cross."""
    card = forecaster.card
    past = _calibrating(card, windows, at) if card.rolling else at[:0]
    needed = np.union1d(past, at)
    every = forecaster.raw(windows, needed)  # once: what is asked for may calibrate what comes later
    raw = every[np.searchsorted(needed, at)]
    shifts = forecaster.shifts.numpy()[forecaster.season(windows, at), np.arange(len(card.steps))]
    if card.rolling:
        shifts = _rolled(card, windows, at, past, every[np.searchsorted(needed, past)], shifts)
    if isinstance(forecaster.network, EstimatedForecast) and forecaster.network.exact:
        shifts[..., len(card.levels) // 2] = 0.0
    return forecaster.physical(np.sort(raw + shifts[:, None], -1))


def reach(card: ForecastCard) -> int:
    """Steps before a reference step that its answer may depend on, its history with them."""
    return card.history + (card.rolling + card.update + card.steps[-1] if card.rolling else 0)


def came_true(windows: SeriesWindows, at: Numbers) -> Floats:
    """(time * place, lead) in the normalised unit; NaN where it is not known or the place has no history."""
    truth = windows.targets(at)[:, :, 0].numpy().transpose(0, 2, 1).astype(np.float64)
    truth = np.where(windows.has_history(at)[:, :, None], truth, np.nan)
    return truth.reshape(-1, truth.shape[2])


def _calibrating(card: ForecastCard, windows: SeriesWindows, at: Numbers) -> Numbers:
    """Steps whose errors count for the answers at ``at``."""
    renewed = at // card.update * card.update
    earliest = max(windows.first + card.history - 1, int(renewed.min()) - card.rolling)
    return np.arange(-(-earliest // card.every) * card.every, int(renewed.max()) + 1, card.every)


def _rolled(
    card: ForecastCard, windows: SeriesWindows, at: Numbers, past: Numbers, raw: Floats, fixed: Floats
) -> Floats:
    """(time, lead, level): shifts by what came true in the steps before, renewed every ``update`` steps of the axis;
    ``raw`` is of ``past``."""
    out, renewed = fixed.copy(), at // card.update * card.update
    truth, places = came_true(windows, past), len(card.places)
    raw = raw.reshape(-1, *raw.shape[2:])
    number = np.repeat(past, places)
    for now in np.unique(renewed):
        mine = (number > now - card.rolling) & (number <= now)
        known = number[mine, None] + np.array(card.steps) <= now
        came = np.where(known, truth[mine], np.nan)
        enough = np.isfinite(came).sum(0) >= ENOUGH * places * card.rolling / card.every
        shifts = conformal_shifts(raw[mine], came, card.levels)[0]
        those = renewed == now
        out[those] = np.where(enough[None, :, None], shifts[None], out[those])
    return out
