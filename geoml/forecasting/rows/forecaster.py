"""A forecast of tables as one module: climatology, scaling, the guess, the network and the calibration of quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml import models
from geoml.engine.packages import weights
from geoml.errors import InputError, ModelError, NothingFound
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.rows.background import PlaceClimatology
from geoml.forecasting.rows.windows import Numbers, SeriesWindows, windows_of
from geoml.io.tables.long_table import Floats, TimePanel
from geoml.io.tables.table_source import TableVariable
from geoml.nn.context import asked
from geoml.nn.forecast.estimated import EstimatedForecast

ROWS = 256
"""Places at reference times that are answered at once: more no longer fit the caches of a processor."""


class TableForecaster(nn.Module):
    """All weights of a package. Scaling is of each variable, after its transform; ``shifts`` (season, lead, level) are
    added to quantiles in the normalised unit."""

    mean: Tensor
    std: Tensor
    shifts: Tensor
    place: Tensor

    def __init__(self, card: ForecastCard) -> None:
        """Raises ModelError for a card that no network fits."""
        super().__init__()
        self.card = card
        table = card.table
        self.steps = card.steps
        count = len(card.places)
        futures = 2 * len(card.futures) + len(table.ahead)
        self.shape = {
            "history": card.history, "leads": list(self.steps), "variables": len(table.seen), "futures": futures,
            "levels": list(card.levels),
        }  # fmt: skip
        self.climatology = PlaceClimatology(count, table.duration)
        self.guess = (
            self._build("ridge", {"background": card.background, "guess": False}) if card.guess == "ridge" else None
        )
        self.network = self._build(
            card.architecture, {**card.config, "background": card.background, "guess": card.guess != "none"}
        )
        names = len(table.variables)
        self.register_buffer("mean", torch.zeros(names, dtype=torch.float64))
        self.register_buffer("std", torch.ones(names, dtype=torch.float64))
        self.register_buffer(
            "shifts", torch.zeros(card.seasons, len(self.steps), len(card.levels), dtype=torch.float64)
        )
        lonlat = torch.tensor([[p.lon, p.lat] for p in card.places], dtype=torch.float32)
        self.register_buffer("place", lonlat.T[None, :, None, :].contiguous(), persistent=False)

    def _build(self, architecture: str, config: dict[str, object]) -> nn.Module:
        """A network with one weight for each place where its kind has such."""
        try:
            fields = models.find(architecture).Config.__dataclass_fields__
            own = {"places": len(self.card.places)} if "places" in fields and "places" not in config else {}
            return models.build(architecture, {**own, **config, **self.shape})
        except InputError as err:
            raise ModelError(f"{self.card.name}: {err}") from err

    # --- the unit of the model and that of the table

    def normalised(self, k: int, values: Floats) -> Floats:
        """Values of variable ``k`` of the table as the model sees them."""
        out: Floats = (transformed(self.card.table.variables[k], values) - float(self.mean[k])) / float(self.std[k])
        return out

    def physical(self, z: Floats) -> Floats:
        """Values of the target in its own unit, none below its floor."""
        target = self.card.table.variables[0]
        values = z * float(self.std[0]) + float(self.mean[0])
        out = np.expm1(np.minimum(values, 700.0)) if target.transform == "log1p" else values
        return out if target.floor is None else np.maximum(out, target.floor)

    def fit_scaling(self, panel: TimePanel, train: NDArray[np.bool_]) -> None:
        """Mean, spread and climatology of the steps that are marked."""
        for k, variable in enumerate(self.card.table.variables):
            known = transformed(variable, panel.values[k][train])
            known = known[np.isfinite(known)]
            if not len(known):
                raise NothingFound(f"{variable.column}: no value in the times that are fitted on")
            self.mean[k] = float(known.mean())
            self.std[k] = max(float(known.std()), 1e-6)
        times = panel.axis.time(panel.numbers[train])
        self.climatology.fit(times, self.normalised(0, panel.values[0][train]))

    # --- windows

    def windows(self, panel: TimePanel, ahead: Floats | None = None) -> SeriesWindows:
        """What the model sees of a panel of its places; ``ahead`` (variable, step and leads, place) is what is known of
        the leads, by default what the panel says of them."""
        table = self.card.table
        seen = [k for k, v in enumerate(table.variables) if not v.ahead]
        given = [k for k, v in enumerate(table.variables) if v.ahead]
        values = np.stack([self.normalised(k, panel.values[k]) for k in seen])
        steps, more = values.shape[1], self.steps[-1]
        times = panel.axis.time(np.arange(panel.first, panel.first + steps + more))
        if ahead is None:
            ahead = panel.between(panel.first, panel.first + steps + more - 1).values[given]
        scaled = [self.normalised(k, ahead[i]) for i, k in enumerate(given)]
        known = np.stack(scaled) if scaled else np.empty((0, steps + more, values.shape[2]))
        return windows_of(
            panel, values, self.climatology.at(times), known, self.card.futures,
            fill=self.card.fill, history=self.card.history, leads=self.steps,
        )  # fmt: skip

    def given(self, windows: SeriesWindows, at: Numbers) -> tuple[Tensor, ...]:
        """The arguments of the network at reference steps."""
        guess = None
        if self.guess is not None:
            assert isinstance(self.guess, EstimatedForecast)
            x, looks = windows.channels(at, background=self.card.background)
            with torch.no_grad():
                guess = self.guess.centre(self.guess.config.layout.split(x, looks))
        x, looks = windows.channels(at, guess, background=self.card.background)
        context = {"looks": looks, "place": self.place.expand(len(at), -1, -1, -1)}
        return x, *(context[name] for name in ("looks", "place") if name in asked(self.network))

    # --- answers

    @torch.no_grad()
    def raw(self, windows: SeriesWindows, at: Numbers) -> Float[NDArray[np.float64], "time place lead level"]:
        """Quantiles as the network says them, in the normalised unit."""
        self.network.eval()
        levels = len(self.card.levels)
        out = []
        batch = max(1, ROWS // len(self.card.places))
        for start in range(0, len(at), batch):
            found = self.network(*self.given(windows, at[start : start + batch]))
            out.append(found.unflatten(1, (-1, levels))[:, :, :, 0].permute(0, 3, 1, 2).double().numpy())
        answer = np.concatenate([np.empty((0, len(self.card.places), len(self.steps), levels)), *out])
        if not np.isfinite(answer).all():
            raise ModelError(f"{self.card.name}: the output of the network is not finite")
        return answer

    def season(self, windows: SeriesWindows, at: Numbers) -> NDArray[np.int64]:
        """(time, lead): the season of what is forecast, from 0; December begins the first of four."""
        ahead = (at - windows.first)[:, None] + np.array(self.steps)
        months = windows.times.month.to_numpy()[ahead]
        return (months % 12 // 3).astype(np.int64) if self.card.seasons == 4 else np.zeros(ahead.shape, np.int64)


def transformed(variable: TableVariable, values: Floats) -> Floats:
    """Before scaling; what lies below the floor is taken as the floor."""
    if variable.transform == "none":
        return values
    low = -0.999 if variable.floor is None else variable.floor
    out: Floats = np.log1p(np.maximum(values, low))
    return out


def mean_of(quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """The mean of the distribution that is straight between the quantiles and ends at the outer ones (..., level)."""
    at = np.array(levels)
    inner = ((quantiles[..., 1:] + quantiles[..., :-1]) / 2 * np.diff(at)).sum(-1)
    out: Floats = inner + quantiles[..., 0] * at[0] + quantiles[..., -1] * (1 - at[-1])
    return out


@dataclass(frozen=True)
class ForecastPackage:
    """A loaded forecast: ``module`` in eval mode on the CPU."""

    module: TableForecaster
    card: ForecastCard


def load(name_or_dir: str | Path) -> ForecastPackage:
    """Read, check and build a package. Raises InputError for an unknown name, ModelError for a damaged package and when
    card and weights disagree."""
    card, path, content = weights.read(name_or_dir, ForecastCard)
    return ForecastPackage(weights.fill(TableForecaster(card), weights.read_tensors(content, path), path), card)


def save(module: TableForecaster, card: ForecastCard, directory: str | Path) -> ForecastCard:
    """Write a package and give the card as written. Raises ModelError for weights that are not finite, DataError when
    the folder cannot be written."""
    content = weights.packed(module.state_dict(), card.name)
    parameters = sum(p.numel() for p in module.network.parameters())
    about = {"weights": weights.WEIGHTS, "stored": "float32", "parameters": parameters}
    return weights.write(card.model_copy(update=about), content, directory)
