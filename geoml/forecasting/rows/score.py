"""Held-out scores of a forecast of tables by lead, beside all simple methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geoml.errors import InputError
from geoml.forecasting.cards.forecast import ForecastCard
from geoml.forecasting.recipe import ForecastRecipe
from geoml.forecasting.rows.calibrated import answers
from geoml.forecasting.rows.fitted import (
    FittedTable,
    all_steps,
    card_of,
    estimate,
    fitted,
    read,
    reference_steps,
)
from geoml.forecasting.rows.forecaster import TableForecaster, load
from geoml.forecasting.rows.windows import Numbers
from geoml.forecasting.skill import told
from geoml.io.tables.long_table import Floats, TimePanel
from geoml.nn.forecast.calibration import symmetric_shifts
from geoml.nn.forecast.scores import LeadScores


def score(model: str | Path, recipe: ForecastRecipe, split: str) -> dict[str, Any]:
    """Scores of a package on the times of a recipe.

    Raises InputError for another split than ``test`` or ``val`` or a package that is not of this recipe's table, and
    what reading raises.
    """
    if split not in ("test", "val"):
        raise InputError(f"split: {split!r}; expected test or val")
    package = load(model)
    panel = read(recipe)
    card = card_of(recipe, panel)
    if recipe.split.refit:
        return {**refitted(recipe, card, panel)[1], **_about(package.card, recipe)}
    mine, table = package.card, card.table
    if mine.table != table or mine.history != card.history or mine.leads != card.leads:
        raise InputError(f"model: {mine.name} is of another table, history or leads than the recipe {recipe.name}")
    panel = panel.of([p.id for p in mine.places])
    found = FittedTable(panel, package.module, package.module.windows(panel), mine)
    return {**score_of(found, recipe, split), **_about(mine, recipe)}


def _about(card: ForecastCard, recipe: ForecastRecipe) -> dict[str, Any]:
    return {"model": card.name, "sha256": card.sha256, "recipe": recipe.hash}


def score_of(found: FittedTable, recipe: ForecastRecipe, split: str) -> dict[str, Any]:
    """The model and every simple method that is fitted on the same training times, at the same times and places."""
    train = reference_steps(recipe, found.panel, "train", recipe.train_every)
    at = reference_steps(recipe, found.panel, split, recipe.every)
    for part, those in ((split, at), ("train", train)):
        if not len(those):
            raise InputError(
                f"split: the table has no reference time of {part} with a complete history and a target; simple methods"
                " are fitted on train"
            )
    truth = truth_of(found, at)
    rows = {recipe.name: _scored(found.forecaster, found, at, truth)}
    for name, method in simple_methods(found, train):
        rows[name] = _scored(method, found, at, truth)
    target = found.card.table.variables[0]
    return {**told(rows, recipe.name), "split": split, "variable": target.said, "unit": target.unit,
            "times": len(at), "places": len(found.card.places)}  # fmt: skip


def truth_of(found: FittedTable, at: Numbers) -> Floats:
    """(time, place, lead) in the unit of the target, NaN where not known or without a history."""
    steps = at[:, None] + np.array(found.card.steps)
    panel = found.panel.between(found.panel.first, int(steps.max()))
    truth = panel.values[0][steps - panel.first].transpose(0, 2, 1)
    return np.where(found.windows.has_history(at)[:, :, None], truth, np.nan)


def simple_methods(found: FittedTable, train: Numbers) -> Iterator[tuple[str, TableForecaster]]:
    """Every simple method of the table, fitted on the same times."""
    card, step = found.card, found.card.table.duration
    day = 0 if step.months or 86_400 % step.seconds else 86_400 // step.seconds
    ways: dict[str, tuple[str, dict[str, Any]]] = {"persistence": ("persistence", {})}
    if 1 < day <= card.history:
        ways["same hour yesterday"] = "persistence", {"period": day}
    ways |= {"climatology": ("climatology", {}), "damped anomaly": ("damped", {}), "ridge": ("ridge", {})}
    if step.months >= 12:
        ways["ridge"] = "ridge", {"places": 0}
    for name, (architecture, config) in ways.items():
        changed = {"architecture": architecture, "config": config, "background": True, "guess": "none"}
        method = TableForecaster(card.model_copy(update=changed))
        method.mean.copy_(found.forecaster.mean)
        method.std.copy_(found.forecaster.std)
        method.climatology.load_state_dict(found.forecaster.climatology.state_dict())
        estimate(method, found.windows, train)
        yield name, method


def _scored(method: TableForecaster, found: FittedTable, at: Numbers, truth: Floats) -> dict[str, Any]:
    return _compute(found.card, answers(method, found.windows, at), truth)


def _compute(card: ForecastCard, quantiles: Floats, truth: Floats) -> dict[str, Any]:
    scores = LeadScores(card.leads, card.levels)
    scores.update(quantiles.reshape(-1, *quantiles.shape[2:]), truth.reshape(-1, truth.shape[2]))
    return scores.compute()


def refitted(recipe: ForecastRecipe, card: ForecastCard, panel: TimePanel) -> tuple[Floats, dict[str, Any]]:
    """Each reference time of the test by what is fitted on all that was known by then, its quantiles shifted by the
    errors of the times before; the shifts (in the unit of the target) after the last of them, and the scores."""
    train = reference_steps(recipe, panel, "train")
    test = reference_steps(recipe, panel, "test", recipe.every)
    if not len(test) or len(train) < 2:
        raise InputError("split: refit needs two reference times to train and one of test, with a history and a target")
    errors: dict[str, list[tuple[Floats, Floats]]] = {}
    said: dict[str, list[Floats]] = {}
    truths: list[Floats] = []
    for now in np.unique(np.concatenate([train[1:], test])):
        known = panel.between(panel.first, int(now))
        before = all_steps(known, card.history, card.steps)
        if not len(before):
            continue
        one = np.array([now])
        past = fitted(card, known, before)
        later = FittedTable(panel, past.forecaster, past.forecaster.windows(panel), card)
        truth = truth_of(later, one)
        if now in test:
            truths.append(truth)
        for name, method in ((recipe.name, past.forecaster), *simple_methods(past, before)):
            shifts = _shifts(errors.get(name, []), card) / float(method.std[0])
            raw = method.raw(later.windows, one)
            z = np.sort(raw + shifts[method.season(later.windows, one), np.arange(len(card.steps))][:, None], -1)
            if now in test:
                said.setdefault(name, []).append(method.physical(z))
            errors.setdefault(name, []).append((raw[0] * float(method.std[0]), method_unit(method, truth[0])))
    truth = np.concatenate(truths)
    rows = {name: _compute(card, np.concatenate(found), truth) for name, found in said.items()}
    by_time = _by_time(panel, card, test, said, truth)
    target = card.table.variables[0]
    scores = {**told(rows, recipe.name), "split": "test", "variable": target.said, "unit": target.unit,
            "times": len(test), "places": len(card.places), "by_time": by_time}  # fmt: skip
    return _shifts(errors[recipe.name], card), scores


def method_unit(method: TableForecaster, truth: Floats) -> Floats:
    """Truth in the normalised unit, times the spread of the training values."""
    return method.normalised(0, truth) * float(method.std[0])


def _shifts(errors: list[tuple[Floats, Floats]], card: ForecastCard) -> Floats:
    if not errors:
        return np.zeros((card.seasons, len(card.steps), len(card.levels)))
    raw, truth = (np.concatenate([e[k] for e in errors]) for k in (0, 1))
    return np.tile(symmetric_shifts(raw, truth, card.levels), (card.seasons, 1, 1))


def _by_time(
    panel: TimePanel, card: ForecastCard, test: Numbers, said: Mapping[str, list[Floats]], truth: Floats
) -> dict[str, Any]:
    """Scores of each reference time by itself: what a year of drought does is lost in the mean."""
    out: dict[str, Any] = {}
    times = panel.axis.time(test)
    for k, time in enumerate(times):
        out[time.isoformat()] = {
            name: {
                key: row
                for key, row in _compute(card, found[k], truth[k : k + 1])["leads"][card.leads[0]].items()
                if key in ("n", "mae", "rmse", "bias", "crps", "coverage")
            }
            for name, found in said.items()
        }
    return out
