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
    raw = forecaster.raw(windows, at)
    shifts = forecaster.shifts.numpy()[forecaster.season(windows, at), np.arange(len(card.steps))]
    if card.rolling:
        shifts = _rolled(forecaster, windows, at, shifts)
    if isinstance(forecaster.network, EstimatedForecast) and forecaster.network.exact:
        shifts[..., len(card.levels) // 2] = 0.0
    return forecaster.physical(np.sort(raw + shifts[:, None], -1))


def reach(card: ForecastCard) -> int:
    """Steps before a reference step that its answer may depend on, its history with them."""
    return card.history + (card.rolling + card.update + card.steps[-1] if card.rolling else 0)


def errors_of(
    forecaster: TableForecaster, windows: SeriesWindows, at: Numbers, until: int | None = None
) -> tuple[Floats, Floats]:
    """(n, lead, level) what the network says and (n, lead) what came true, in the normalised unit; what is not known at
    step ``until``, or has no history, is NaN."""
    raw = forecaster.raw(windows, at)
    truth = windows.targets(at)[:, :, 0].numpy().transpose(0, 2, 1).astype(np.float64)
    truth = np.where(windows.has_history(at)[:, :, None], truth, np.nan)
    if until is not None:
        truth = np.where((at[:, None] + np.array(forecaster.steps) <= until)[:, None], truth, np.nan)
    rows = truth.shape[0] * truth.shape[1]
    return raw.reshape(rows, *raw.shape[2:]), truth.reshape(rows, truth.shape[2])


def _rolled(forecaster: TableForecaster, windows: SeriesWindows, at: Numbers, fixed: Floats) -> Floats:
    """(time, lead, level): shifts by what came true in the steps before, renewed every ``update`` steps of the axis."""
    card, out = forecaster.card, fixed.copy()
    renewed = at // card.update * card.update
    first = windows.first + card.history - 1
    earliest = max(first, int(renewed.min()) - card.rolling)
    past = np.arange(-(-earliest // card.every) * card.every, int(renewed.max()) + 1, card.every)
    raw, truth = errors_of(forecaster, windows, past)
    places = len(card.places)
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
