"""Held-out scores of a forecast on a grid by lead, beside all simple methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml.errors import NothingFound
from geoml.forecasting.grids.seen import SeenCube
from geoml.grid.plane import Window
from geoml.io.cards.forecast import spelled
from geoml.nn.forecast.fields import FieldScores
from geoml.nn.forecast.layout import SAID

Floats = NDArray[np.float32]

TILE, HALO = 512, 64
"""Pixels: of larger fields tiles are forecast, with so much around them."""
SQUARE = 5
"""Pixels of a side of the squares of the fractions skill score."""


def raw_of(net: nn.Module, seen: SeenCube, at: int) -> Floats:
    """(lead * level, y, x) raw output at a reference time, NaN where nothing is said."""
    rows, columns = seen.frames.shape
    out: Floats | None = None
    net = net.eval()
    for y in range(0, rows, TILE):
        for x in range(0, columns, TILE):
            core = Window(y, x, min(y + TILE, rows), min(x + TILE, columns))
            around = core.expand(HALO).intersect(seen.whole)
            values, known = seen.channels(at, around)
            with torch.inference_mode():
                raw = net(torch.from_numpy(values)[None], torch.from_numpy(known)[None])[0].numpy()
            if out is None:
                out = np.empty((len(raw), rows, columns), np.float32)
            out[:, *core.slices(seen.whole)] = raw[:, *core.slices(around)]
    assert out is not None
    return np.where(out > SAID, out, np.float32(np.nan))


def quantiles_of(net: nn.Module, seen: SeenCube, at: int) -> Floats:
    """(lead, level, y, x) calibrated quantiles in the unit, as a run writes them."""
    terms = seen.terms
    values = raw_of(net, seen, at) * np.float32(seen.std) + np.float32(seen.mean)
    values = values.reshape(len(terms.leads), terms.values, *seen.frames.shape)
    if terms.offsets:
        values = values + np.array(terms.offsets, np.float32)[:, :, None, None]
        values = np.maximum.accumulate(values, 1)
    return seen.physical(values)


def scores_of(net: nn.Module, seen: SeenCube, at: Sequence[int], thresholds: Sequence[float]) -> dict[str, Any]:
    """By lead the scores of the model, of each simple method, and the skill against the best of them.

    Raises NothingFound without a reference time.
    """
    if not at:
        raise NothingFound("split: no reference time to score in the cube")
    methods: dict[str, Callable[[int], Floats]] = {"model": lambda time: quantiles_of(net, seen, time)}
    methods |= simple(seen)
    sums = {name: [_empty(seen, thresholds, quantiles=name == "model") for _ in seen.terms.leads] for name in methods}
    for time in at:
        truth = seen.truth(time, seen.whole)
        for name, forecast in methods.items():
            found = forecast(time)
            for lead, scores in enumerate(sums[name]):
                scores.update(found[lead], truth[lead])
    computed = {name: [s.compute() for s in of] for name, of in sums.items()}
    leads = [_row(spelled(lead), {n: of[k] for n, of in computed.items()}) for k, lead in enumerate(seen.terms.leads)]
    return {"unit": seen.terms.unit, "times": len(at), "levels": list(seen.terms.quantiles), "leads": leads}


def _empty(seen: SeenCube, thresholds: Sequence[float], *, quantiles: bool) -> FieldScores:
    levels = seen.terms.quantiles if quantiles and seen.terms.quantiles else (0.5,)
    return FieldScores(levels, thresholds, (SQUARE,), seen.terms.faint if seen.terms.floor is not None else -np.inf)


def simple(seen: SeenCube) -> dict[str, Callable[[int], Floats]]:
    """Each gives (lead, 1, y, x) in the unit."""
    numbers = seen.terms.numbers

    def last(time: int) -> Floats:
        return np.repeat(seen.frame(time)[None, None], len(numbers), 0)

    def yesterday(time: int) -> Floats:
        days = [-(-n // day) * day - n for n in numbers]
        return np.stack([seen.frame(time - back) for back in days])[:, None]

    def usual(time: int) -> Floats:
        return np.stack([seen.physical(seen.usual(time + n)) for n in numbers])[:, None]

    found: dict[str, Callable[[int], Floats]] = {"persistence": last}
    day = round(86_400 / seen.terms.step.total_seconds())
    if seen.climatology is not None:
        found["climatology"] = usual
        if day > 1:
            found["yesterday"] = yesterday
    if seen.terms.advected:
        found["advection"] = lambda time: seen.advected(time, seen.whole, numbers)[:, None]
    return found


def _row(lead: str, of: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of all by name, the rest of the model alone; skill by the mean absolute error."""
    errors = {name: scores["mae"] for name, scores in of.items()}
    others = [v for name, v in errors.items() if name != "model" and v]
    skill = 1 - errors["model"] / min(others) if others and errors["model"] is not None else None
    more = {key: {name: scores[key] for name, scores in of.items()} for key in ("rmse", "crps", "csi", "fss", "unsaid")}
    told = {key: of["model"][key] for key in ("n", "bias", "coverage", "coverage_wet")}
    return {"lead": lead, "mae": errors, "skill": skill, **more, **told}
