"""What a model sees of a panel at reference times, as the channels of `geoml.nn.forecast.layout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from geoml.forecasting.rows.background import DAY, YEAR
from geoml.io.tables.long_table import Floats, TimePanel

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SeriesWindows:
    """A panel as the model sees it, all normalised; steps go on to the longest lead after its end.

    ``values`` (variable, step, place) float32 are 0 where nothing is known and ``known`` says where it is; ``truth``
    (step, place) is the target, NaN where not known; ``background`` (step, place); ``future`` (step, feature, place).
    """

    first: int
    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    truth: NDArray[np.float32]
    background: NDArray[np.float32]
    future: NDArray[np.float32]
    times: pd.DatetimeIndex
    history: int
    leads: tuple[int, ...]

    def channels(
        self, at: Numbers, guess: Float[Tensor, "batch lead y x"] | None = None, *, background: bool = True
    ) -> tuple[Float[Tensor, "batch channel 1 place"], Bool[Tensor, "batch look 1 place"]]:
        """Channels and looks at steps (by number) up to which all is known."""
        rows = at - self.first
        before = rows[:, None] + np.arange(-self.history + 1, 1)
        ahead = rows[:, None] + np.array(self.leads)
        parts = [_flat(self.values[:, before].transpose(1, 2, 0, 3))]
        if background:
            parts += [self.background[before], self.background[ahead]]
        if guess is not None:
            parts.append(guess[:, :, 0].numpy())
        parts.append(_flat(self.future[ahead]))
        looks = _flat(self.known[:, before].transpose(1, 2, 0, 3))
        x = np.concatenate(parts, 1)[:, :, None]
        return torch.from_numpy(np.ascontiguousarray(x, np.float32)), torch.from_numpy(looks[:, :, None].copy())

    def targets(self, at: Numbers) -> Float[Tensor, "batch lead 1 place"]:
        """What came true, NaN where that is not known."""
        ahead = (at - self.first)[:, None] + np.array(self.leads)
        return torch.from_numpy(self.truth[ahead][:, :, None].copy())

    def has_history(self, at: Numbers) -> NDArray[np.bool_]:
        """(time, place): whether any of the steps that are seen has a target."""
        before = (at - self.first)[:, None] + np.arange(-self.history + 1, 1)
        out: NDArray[np.bool_] = self.known[0][before].any(1)
        return out


def filled(z: Floats, most: int) -> Floats:
    """(variable, step, place) with the value before where at most so many steps in a row are missing before it."""
    out = z.copy()
    for _ in range(most):
        before = np.concatenate([np.full_like(out[:, :1], np.nan), out[:, :-1]], 1)
        out = np.where(np.isnan(z) & np.isnan(out), before, out)
    return out


def calendar(times: pd.DatetimeIndex, features: Sequence[str]) -> Floats:
    """(time, 2 * feature) sine and cosine of the hour of the day and the day of the year, UTC."""
    seconds = times.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[s]").astype(np.int64)
    turns = {"hour": seconds / DAY, "day_of_year": seconds / (YEAR * DAY)}
    parts = [f(2 * np.pi * turns[name]) for name in features for f in (np.sin, np.cos)]
    return np.stack(parts, 1) if parts else np.empty((len(times), 0))


def _flat(x: NDArray[np.generic]) -> NDArray[np.generic]:
    """The second and third axis as one."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def windows_of(
    panel: TimePanel, values: Floats, background: Floats, ahead: Floats, features: Sequence[str], *, fill: int,
    history: int, leads: tuple[int, ...],
) -> SeriesWindows:  # fmt: skip
    """``values`` (variable, step, place) normalised, NaN where not known; ``background`` (step and leads, place) and
    ``ahead`` (variable, step and leads, place) go on to the longest lead."""
    more = leads[-1]
    times = panel.axis.time(np.arange(panel.first, panel.first + values.shape[1] + more))
    later = np.full((*values.shape[:1], more, values.shape[2]), np.nan)
    longer = np.concatenate([values, later], 1)
    said = calendar(times, features)[:, :, None].repeat(values.shape[2], 2)
    given = np.nan_to_num(ahead.transpose(1, 0, 2))
    return SeriesWindows(
        panel.first,
        np.nan_to_num(filled(longer, fill)).astype(np.float32),
        np.isfinite(longer),
        longer[0].astype(np.float32),
        background.astype(np.float32),
        np.concatenate([said, given], 1).astype(np.float32),
        times,
        history,
        leads,
    )
