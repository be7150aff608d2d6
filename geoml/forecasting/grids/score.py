"""Held-out scores of a forecast on a grid by lead, beside all simple methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from torch import nn

from geoml.engine.packages import package
from geoml.errors import InputError, ModelError, NothingFound
from geoml.forecasting.grids.frames import CubeFrames, opened, source_of
from geoml.forecasting.grids.seen import SeenCube
from geoml.forecasting.grids.skill_map import LEAST, SkillMap
from geoml.forecasting.recipe import CubeSource, ForecastRecipe
from geoml.forecasting.skill import told
from geoml.grid.plane import Window
from geoml.io.cards.forecast import ForecastTerms, period, spelled
from geoml.io.stores.store import sha256, within
from geoml.nn.forecast.fields import FieldScores
from geoml.nn.forecast.layout import SAID
from geoml.recipe import parse

Floats = NDArray[np.float32]

TILE, HALO = 512, 64
"""Pixels: of larger fields tiles are forecast, with so much around them."""
SQUARE = 5
"""Pixels of a side of the squares of the fractions skill score."""


def raw_of(net: nn.Module, seen: SeenCube, at: int) -> Floats:
    """(lead * level, y, x) raw output at a reference time, without the age, NaN where nothing is said."""
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
    out = out[: len(seen.terms.leads) * seen.terms.values]
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


def score(model: str | Path, recipe: ForecastRecipe, split: str, maps: Path | None = None) -> dict[str, Any]:
    """Scores of a package on the times of a recipe; the map of its skill becomes the file ``maps``.

    Raises InputError for another split than ``test`` or ``val`` or a package of other steps or leads, NothingFound
    without a reference time, and what reading raises.
    """
    if split not in ("test", "val"):
        raise InputError(f"split: {split!r}; expected test or val")
    loaded = package.load(model)
    terms = parse(ForecastTerms, dict(loaded.card.made), f"{loaded.card.name}: made")
    source = source_of(recipe)
    if (terms.history, [spelled(v) for v in terms.leads]) != (recipe.history, list(recipe.leads)):
        raise InputError(f"model: {loaded.card.name} has other history or leads than the recipe {recipe.name}")
    with opened(source) as cube:
        frames, band = CubeFrames(cube), loaded.card.bands[0]
        seen = SeenCube(frames, terms, band.mean, band.std, climatology_of(loaded.path, terms))
        at = frames.references(recipe.split, split, terms, recipe.every)
        if terms.latest:
            seen.wanted = frames.targets(recipe.split, split)
        found, skill_map = scores_of(loaded.card.name, loaded.module, seen, at, source)
        if maps is not None:
            best = {row: of["mae"]["best"] for row, of in found["skill"].items() if "mae" in of}
            skill_map.widen()
            skill_map.write(maps, cube.geobox, skill_map.skill(best, loaded.card.name))
            found["skill_map"] = {"path": str(maps), "side": skill_map.side, "least": LEAST, "best": best}
    about = {"model": loaded.card.name, "sha256": loaded.card.sha256, "recipe": recipe.hash}
    return {**found, "split": split, **about}


def climatology_of(folder: Path, terms: ForecastTerms) -> Floats | None:
    """(feature, y, x) of a package; None if it has none. Raises ModelError for a file that is not the card's."""
    if terms.background is None:
        return None
    path = within(folder, terms.background.file)
    if sha256(path) != terms.background.sha256:
        raise ModelError(f"{path}: not the climatology of the package; copy the package again")
    with rasterio.open(path) as file:
        found: Floats = file.read()
    return found


def scores_of(
    name: str, net: nn.Module, seen: SeenCube, at: Sequence[int], source: CubeSource
) -> tuple[dict[str, Any], SkillMap]:
    """By lead the scores of the model ``name`` and of each simple method, and the skill against the best of these; and
    where it has it. Where the recipe names distances from what was last known, they stand in place of leads.

    Raises NothingFound without a reference time.
    """
    if not at:
        raise NothingFound("split: no reference time to score in the cube")
    rows = ScoreRows(seen, source)
    methods: dict[str, Callable[[int], Floats]] = {name: lambda time: quantiles_of(net, seen, time)}
    methods |= {said: method for said, method in simple(seen).items() if said != name}
    sums = {said: [_empty(seen, source.thresholds, quantiles=said == name) for _ in rows.names] for said in methods}
    skill_map = SkillMap(seen.frames.shape, rows.names, list(methods))
    for time in at:
        truth = seen.truth(time, seen.whole)
        forecasts = {said: forecast(time) for said, forecast in methods.items()}
        for lead, row, known in rows.of(time, truth):
            for said, found in forecasts.items():
                sums[said][row].update(found[lead], known)
            skill_map.update(row, [found[lead, found.shape[1] // 2] for found in forecasts.values()], known)
    scored = {
        said: {
            "leads": (by_row := {row: s.compute() for row, s in zip(rows.names, of, strict=True)}),
            **{key: _mean([row[key] for row in by_row.values()]) for key in ("mae", "crps")},
            "levels": list(of[0].levels),
        }
        for said, of in sums.items()
    }
    size = seen.frames.shape[0] * seen.frames.shape[1]
    unit = "" if seen.terms.unit in (None, "1") else seen.terms.unit
    about = {"variable": seen.terms.variable, "unit": unit, "times": len(at), "places": size, "by": rows.by}
    return {**told(scored, name), **about}, skill_map


class ScoreRows:
    """What scores are told by: leads, or how long ago the last known value of a pixel is at what is foretold."""

    def __init__(self, seen: SeenCube, source: CubeSource) -> None:
        self.seen, self.far = seen, [period(text) // seen.terms.step for text in source.distances]
        if self.far != sorted(set(self.far)):
            raise InputError(f"distances: {', '.join(source.distances)}; expected rising values")
        self.by = "distances" if self.far else "leads"
        self.names = tuple(source.distances) or tuple(spelled(v) for v in seen.terms.leads)

    def of(self, time: int, truth: Floats) -> Iterator[tuple[int, int, Floats]]:
        """Lead, row, and (y, x) what is known of it, of (lead, y, x) truth; nothing where nothing is."""
        age = self.seen.latest(time)[1] if self.far else None
        for lead, number in enumerate(self.seen.terms.numbers):
            if not np.isfinite(truth[lead]).any():
                continue
            if age is None:
                yield lead, lead, truth[lead]
                continue
            for row, (more, most) in enumerate(pairwise([-1, *self.far])):
                mine = (age + number > more) & (age + number <= most)
                if mine.any():
                    yield lead, row, np.where(mine, truth[lead], np.float32(np.nan))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _empty(seen: SeenCube, thresholds: Sequence[float], *, quantiles: bool) -> FieldScores:
    levels = seen.terms.quantiles if quantiles and seen.terms.quantiles else (0.5,)
    return FieldScores(levels, thresholds, (SQUARE,), seen.terms.faint if seen.terms.floor is not None else -np.inf)


def simple(seen: SeenCube) -> dict[str, Callable[[int], Floats]]:
    """Each gives (lead, 1, y, x) in the unit."""
    numbers = seen.terms.numbers

    def last(time: int) -> Floats:
        value = seen.physical(seen.latest(time)[0]) if seen.terms.latest else seen.frame(time)
        return np.repeat(value[None, None], len(numbers), 0)

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
