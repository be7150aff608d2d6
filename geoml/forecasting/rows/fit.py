"""Train a forecast of tables: a recipe in, a package with held-out scores out.

Scaling, climatology, the guess and the weights come from training times, calibration from those that choose; the card
keeps a hash of each. What is estimated in closed form needs no loop; all else goes through that of the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import choose
from geoml.data.chips import OwnRows
from geoml.data.recipe import resolve
from geoml.engine.packages import cards
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError, NothingFound
from geoml.forecasting.cards.forecast import CardPlace, ForecastCard
from geoml.forecasting.recipe import ForecastRecipe, TimeSplit
from geoml.forecasting.rows.calibrated import errors_of
from geoml.forecasting.rows.forecaster import TableForecaster, save
from geoml.forecasting.rows.windows import Numbers, SeriesWindows
from geoml.io.tables.durations import StepDuration
from geoml.io.tables.long_table import TimePanel, read_panel, read_places
from geoml.io.tables.table_source import TableLayout, TableSource
from geoml.nn.forecast.calibration import conformal_shifts
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.quantiles import pinball_loss

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


def fit(recipe: ForecastRecipe, out: Path, on_epoch: OnEpoch | None = None) -> ForecastCard:
    """Train by the recipe and write a package to ``out``; one that was stopped goes on.

    Raises InputError for a recipe that does not fit its table, NothingFound without a window to train on, DataError for
    a table that cannot be used, ModelError when the loss is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    if (out / cards.CARD).exists() and not claim.state.exists():
        card = cards.read_in(out, ForecastCard)
        if card.training.get("recipe_hash") != recipe.hash:
            raise InputError(f"out: {out} holds the package {card.name} of another recipe; choose another folder")
        return card
    claim.check()
    from geoml.forecasting.rows.score import refitted, score_of

    panel = read(recipe)
    card = card_of(recipe, panel)
    if recipe.split.refit:
        found = fitted(card, panel, all_steps(panel, card.history, card.steps))
        shifts, scores = refitted(recipe, card, panel)
        found.forecaster.shifts.copy_(torch.from_numpy(shifts) / found.forecaster.std[0])
        history: list[Any] = []
    else:
        found, history = trained(recipe, card, panel, claim, on_epoch)
        scores = score_of(found, recipe, "test")
    told = {**recipe.about(), "history": history, "left_out": panel.left_out}
    card = save(found.forecaster, found.card.model_copy(update={"training": told, "scores": scores}), out)
    if claim.state.exists():
        claim.forget()
    return card


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


def reference_steps(recipe: ForecastRecipe, panel: TimePanel, part: str, every: int = 1) -> Numbers:
    """Those of `all_steps` that are reference times of a part of the split."""
    at = all_steps(panel, recipe.history, recipe.steps)
    inside: Numbers = at[within(recipe.split, part, panel.axis.time(at))]
    return inside[::every]


def all_steps(panel: TimePanel, history: int, leads: Sequence[int]) -> Numbers:
    """Steps of the panel up to which all may be known, with a whole history and one lead at least in it."""
    numbers = panel.numbers
    return numbers[(numbers >= panel.first + history - 1) & (numbers + leads[0] <= numbers[-1])]


def within(split: TimeSplit, part: str, times: Any) -> NDArray[np.bool_]:
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


def trained(
    recipe: ForecastRecipe, card: ForecastCard, panel: TimePanel, claim: FolderClaim, on_epoch: OnEpoch | None
) -> tuple[FittedTable, list[Any]]:
    """Fitted on the training times and calibrated on those that choose, and a row for each epoch."""
    found = fitted(card, panel, reference_steps(recipe, panel, "train", recipe.train_every))
    val = reference_steps(recipe, panel, "val", recipe.every)
    history: list[Any] = []
    if not isinstance(found.forecaster.network, EstimatedForecast):
        if not len(val):
            raise InputError(f"split: no time of val; {recipe.architecture} is learnt, so expected some that choose")
        history = _learn(recipe, found, val, claim, on_epoch)
    if len(val):
        calibrate(found, val)
        inside = within(recipe.split, "val", panel.axis.time(panel.numbers))
        found = found._replace(card=found.card.model_copy(update={"calibration_sha256": hashed(panel, inside)}))
    return found, history


def calibrate(found: FittedTable, at: Numbers) -> None:
    """Shift the quantiles by their errors at reference steps that nothing was fitted on."""
    forecaster = found.forecaster
    raw, truth = errors_of(forecaster, found.windows, at)
    season = forecaster.season(found.windows, at).repeat(len(found.card.places), 0)
    shifts = conformal_shifts(raw, truth, found.card.levels, season, found.card.seasons)
    forecaster.shifts.copy_(torch.from_numpy(shifts))


def hashed(panel: TimePanel, steps: NDArray[np.bool_]) -> str:
    """sha256 of the marked times and of the values at them."""
    found = hashlib.sha256(panel.axis.time(panel.numbers[steps]).tz_localize(None).to_numpy("datetime64[s]").tobytes())
    found.update(np.ascontiguousarray(panel.values[:, steps]).tobytes())
    return found.hexdigest()


# --- what is learnt


@dataclass
class ForecastValidation:
    """Pinball loss of the reference steps that choose, in the normalised unit."""

    found: FittedTable
    at: Numbers
    batch: int
    key: str = "crps"
    larger_is_better: bool = False
    sums: list[tuple[float, int]] = field(default_factory=list)

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        return _batches(self.found, self.at, self.batch, rows)

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (raw,)

    def start(self) -> None:
        self.sums = []

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        known = int(torch.isfinite(target).sum())
        self.sums.append((float(pinball_loss(decoded[0], target, self.found.card.levels)) * known, known))

    def compute(self) -> float | None:
        known = sum(n for _, n in self.sums)
        return sum(s for s, _ in self.sums) / known if known else None


def _learn(
    recipe: ForecastRecipe, found: FittedTable, val: Numbers, claim: FolderClaim, on_epoch: OnEpoch | None
) -> list[Any]:
    torch.manual_seed(recipe.seed)
    found.forecaster.network = TableForecaster(found.card).network
    net = found.forecaster.network
    at = reference_steps(recipe, found.panel, "train", recipe.train_every)
    steps = max(1, len(at) // recipe.batch)

    def batches(epoch: int, rows: OwnRows) -> Iterable[TrainingBatch]:
        order = np.random.default_rng([recipe.seed, epoch]).permutation(at)
        return _batches(found, order[: steps * recipe.batch], recipe.batch, rows)

    training = Training(
        name=recipe.name, lower="lr", net=net, batches=batches,
        loss=lambda raw, target: pinball_loss(raw, target, recipe.levels),
        optimiser=lambda: AdamW(net.parameters(), weight_decay=recipe.weight_decay),
        schedule=lambda o: OneCycleLR(o, max_lr=recipe.lr, total_steps=steps * recipe.epochs),
        epochs=recipe.epochs, device=choose(), clip=1.0, seed=recipe.seed,
        validation=ForecastValidation(found, val, recipe.batch),
    )  # fmt: skip
    return list(learn(training, claim.take(), on_epoch).history)


def _batches(found: FittedTable, at: Numbers, size: int, part: OwnRows) -> Iterator[TrainingBatch]:
    for start in range(0, len(at), size):
        those = at[start : start + size]
        mine = those[part(len(those))]
        x = found.forecaster.given(found.windows, mine)
        target = found.windows.targets(mine)
        yield TrainingBatch(x, target, len(those))
