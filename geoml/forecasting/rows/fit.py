"""Train a forecast of tables: a recipe in, a package with held-out scores out.

Scaling, climatology, the guess and the weights come from training times, calibration from those that choose; the card
keeps a hash of each. What is estimated in closed form needs no loop; all else goes through that of the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import choose
from geoml.data.chips import OwnRows
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.recipe import ForecastRecipe
from geoml.forecasting.rows.fitted import (
    FittedTable,
    all_steps,
    calibrate,
    card_of,
    fitted,
    hashed,
    read,
    reference_steps,
    within,
)
from geoml.forecasting.rows.forecaster import TableForecaster, save
from geoml.forecasting.rows.score import refitted, score_of
from geoml.forecasting.rows.windows import Numbers
from geoml.io.tables.long_table import TimePanel
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.quantiles import pinball_loss


def fit(recipe: ForecastRecipe, out: Path, on_epoch: OnEpoch | None = None) -> ForecastCard:
    """Train by the recipe and write a package to ``out``; one that was stopped goes on.

    Raises InputError for a recipe that does not fit its table, NothingFound without a window to train on, DataError for
    a table that cannot be used, ModelError if the loss is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    if (earlier := claim.finished(ForecastCard)) is not None:
        return earlier
    claim.check()
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


def trained(
    recipe: ForecastRecipe, card: ForecastCard, panel: TimePanel, claim: FolderClaim, on_epoch: OnEpoch | None
) -> tuple[FittedTable, list[Any]]:
    """Fitted on the training times and calibrated on those that choose, and a row for each epoch."""
    found = fitted(card, panel, reference_steps(recipe, panel, "train", recipe.train_every))
    val = reference_steps(recipe, panel, "val", recipe.every)
    history: list[Any] = []
    if not isinstance(found.forecaster.network, EstimatedForecast):
        if not len(val):
            raise InputError(
                f"split: no time of val; {recipe.architecture} is trained, so it needs some to choose the weights by"
            )
        history = _learn(recipe, found, val, claim, on_epoch)
    if len(val):
        calibrate(found, val)
        inside = within(recipe.split, "val", panel.axis.time(panel.numbers))
        found = found._replace(card=found.card.model_copy(update={"calibration_sha256": hashed(panel, inside)}))
    return found, history


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


def training_of(recipe: ForecastRecipe, found: FittedTable, val: Numbers) -> Training:
    """What the loop trains, all of which can go to another process."""
    net = found.forecaster.network
    at = reference_steps(recipe, found.panel, "train", recipe.train_every)
    steps = max(1, len(at) // recipe.batch)
    return Training(
        name=recipe.name, lower="lr", net=net, batches=partial(_epoch, recipe, found, at, steps),
        loss=partial(_loss, recipe.levels), optimiser=partial(_optimiser, net, recipe.weight_decay),
        schedule=partial(OneCycleLR, max_lr=recipe.lr, total_steps=steps * recipe.epochs),
        epochs=recipe.epochs, device=choose(), clip=1.0, seed=recipe.seed,
        validation=ForecastValidation(found, val, recipe.batch),
    )  # fmt: skip


def _learn(
    recipe: ForecastRecipe, found: FittedTable, val: Numbers, claim: FolderClaim, on_epoch: OnEpoch | None
) -> list[Any]:
    torch.manual_seed(recipe.seed)
    found.forecaster.network = TableForecaster(found.card).network
    return list(learn(training_of(recipe, found, val), claim.take(), on_epoch).history)


def _optimiser(net: nn.Module, decay: float) -> AdamW:
    return AdamW(net.parameters(), weight_decay=decay)


def _loss(levels: Sequence[float], raw: Tensor, target: Tensor) -> Tensor:
    return pinball_loss(raw, target, levels)


def _epoch(
    recipe: ForecastRecipe, found: FittedTable, at: Numbers, steps: int, epoch: int, rows: OwnRows
) -> Iterator[TrainingBatch]:
    """Whole batches of training times in an order of the epoch."""
    order = np.random.default_rng([recipe.seed, epoch]).permutation(at)
    return _batches(found, order[: steps * recipe.batch], recipe.batch, rows)


def _batches(found: FittedTable, at: Numbers, size: int, part: OwnRows) -> Iterator[TrainingBatch]:
    for start in range(0, len(at), size):
        those = at[start : start + size]
        mine = those[part(len(those))]
        x = found.forecaster.given(found.windows, mine)
        target = found.windows.targets(mine)
        yield TrainingBatch(x, target, len(those))
