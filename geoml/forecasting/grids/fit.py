"""Train a forecast on a grid: a recipe in, a package with held-out scores out.

Normalisation, climatology and weights come from training times, calibration from those that choose; the card keeps a
hash of each. What is estimated in closed form needs no loop; all else goes through that of the project.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.backends.torch import choose
from geoml.cube.harmonics import fit_harmonics
from geoml.data.chips import OwnRows
from geoml.engine.packages import package
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import InputError, NothingFound
from geoml.forecasting.grids.frames import CubeFrames, opened, resolution_of, source_of
from geoml.forecasting.grids.score import raw_of, scores_of
from geoml.forecasting.grids.seen import SeenCube
from geoml.forecasting.recipe import CubeSource, ForecastRecipe, check_gaps, check_order, lead_steps
from geoml.grid.plane import Window
from geoml.io.cards.forecast import BackgroundTerms, ForecastTerms
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.cog.write import CogWriter
from geoml.io.cubes.catalog import outline_of
from geoml.io.cubes.cube import Cube
from geoml.io.stores.store import sha256, within
from geoml.io.tables.durations import StepDuration
from geoml.nn.forecast.calibration import conformal_shifts, symmetric_shifts
from geoml.nn.forecast.estimated import EstimatedForecast
from geoml.nn.forecast.quantiles import pinball_loss

TASK = "grid_forecast"
CLIMATOLOGY = "climatology.tif"
DAYS = 548
"""From so many days of training time on, the climatology has harmonics of the year."""
FOLDS = 4
ESTIMATED = 96
"""Windows that a forecast without training is estimated on."""
CALIBRATED = 20_000
"""Pixels of each reference time that calibrate, at most."""
FEW_DAYS = 30
DEGREE = 111_319.490793
"""Metres, as `geoml.grid.region.plane_of` has it."""


@dataclass
class FittedGrid:
    """A cube as the forecast sees it, the card, and the network."""

    frames: CubeFrames
    seen: SeenCube
    card: MapCard
    net: nn.Module

    @property
    def terms(self) -> ForecastTerms:
        return self.seen.terms


def fit(recipe: ForecastRecipe, out: Path, on_epoch: OnEpoch | None = None) -> MapCard:
    """Train by the recipe and write a package to ``out``; one that was stopped goes on.

    Raises InputError for a recipe that does not fit its cube, NothingFound without a reference time to train on,
    DataError for a cube that cannot be read, ModelError if the loss is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    if (earlier := claim.finished(MapCard)) is not None:
        return earlier
    claim.check()
    with opened(source_of(recipe)) as cube:
        found, history = fitted(recipe, cube, claim, on_epoch)
        if found.terms.latest:
            found.seen.wanted = found.frames.targets(recipe.split, "test")
        scores, _ = scores_of(recipe.name, found.net, found.seen, references(recipe, found, "test"), source_of(recipe))
        split = {part: list(getattr(recipe.split, part)) for part in ("train", "val", "test")}
        told = {**found.card.training, **recipe.about(), "history": history, "split": split}
        card = found.card.model_copy(update={"training": told, "scores": {"split": "test", **scores}})
        if found.seen.climatology is not None:
            (claim.state / CLIMATOLOGY).replace(within(out, CLIMATOLOGY))
        card = package.save(found.net, card, out)
    if claim.state.exists():
        claim.forget()
    return card


def terms_of(recipe: ForecastRecipe, cube: Cube) -> ForecastTerms:
    """What the card says of the forecast. Raises InputError for leads that are not steps, and too small a gap."""
    source, step = source_of(recipe), StepDuration.parse(cube.spec.step)
    numbers = lead_steps(recipe.leads, step)
    if source.latest:  # what is forecast is of one part alone, whatever was known before
        check_order(recipe.split)
    else:
        check_gaps(recipe.split, step, recipe.history + numbers[-1])
    return ForecastTerms.model_validate(
        {
            "variable": cube.variable, "standard_name": cube.variable, "unit": cube.unit, "step": cube.spec.step,
            "history": recipe.history, "leads": recipe.leads, "quantiles": recipe.levels,
            "accumulated": cube.spec.time.label != "instant", "transform": source.transform, "faint": source.faint,
            "floor": source.floor, "advected": recipe.guess == "advection", "latest": source.latest,
            "resolution": resolution_of(cube),
        }
    )  # fmt: skip


def fitted(
    recipe: ForecastRecipe, cube: Cube, claim: FolderClaim, on_epoch: OnEpoch | None
) -> tuple[FittedGrid, list[Any]]:
    """All that is learnt from the times that train and choose, and a row for each epoch."""
    frames = CubeFrames(cube)
    seen = SeenCube(frames, terms_of(recipe, cube))
    train = frames.references(recipe.split, "train", seen.terms, recipe.train_every)
    if not train:
        raise NothingFound(f"split: no reference time of train in {cube.times[0]} to {cube.times[-1]}")
    if seen.terms.latest:
        seen.wanted = frames.targets(recipe.split, "train")
    steps = trained_steps(seen, train)
    seen.measure(steps)
    state = claim.take()  # once: to take what has no epoch yet empties it
    if recipe.background:
        _climatology(seen, steps, state, source_of(recipe))
    found = FittedGrid(frames, seen, card_of(recipe, seen, cube), nn.Identity())
    torch.manual_seed(recipe.seed)
    found.net = package.build(found.card)
    history: list[Any] = []
    if isinstance(found.net, EstimatedForecast):
        _estimate(found.net, seen, train, recipe)
    elif seen.terms.latest:
        raise InputError(
            f"architecture: {recipe.architecture} is trained; latest needs a model that is not, such as damped"
        )
    else:
        history = _learn(recipe, found, train, references(recipe, found, "val"), state, on_epoch)
    told = {"trained_sha256": hashed(seen, steps)}
    if seen.terms.latest:
        seen.wanted = frames.targets(recipe.split, "val")
    if val := references(recipe, found, "val"):
        if isinstance(found.net, EstimatedForecast) and seen.terms.latest:
            _spread(found.net, seen, val, recipe)
        else:
            seen.terms = seen.terms.model_copy(update={"offsets": calibrated(found, val)})
        made = seen.terms
        told["calibrated_sha256"] = hashed(seen, trained_steps(seen, val))
        found.card = found.card.model_copy(update={"made": made.model_dump(mode="json", exclude_defaults=True)})
    found.card = found.card.model_copy(update={"training": told})
    return found, history


def references(recipe: ForecastRecipe, found: FittedGrid, part: str) -> list[int]:
    """Steps of the reference times of a part."""
    return found.frames.references(recipe.split, part, found.terms, recipe.every)


def trained_steps(seen: SeenCube, at: Sequence[int]) -> NDArray[np.int64]:
    """All steps that reference times see or foretell; of what was last known those that are foretold, and all before
    them that are seen."""
    ahead = {t + k for t in at for k in seen.terms.numbers}
    ahead = ahead if seen.wanted is None else ahead & seen.wanted
    behind = {n for t in at for n in seen.history(t) if seen.wanted is None or n <= max(ahead, default=n)}
    return np.array(sorted((ahead | behind) & {int(n) for n in seen.frames.numbers}), np.int64)


def hashed(seen: SeenCube, steps: NDArray[np.int64]) -> str:
    """sha256 of the steps and of the values at them."""
    found = hashlib.sha256(steps.tobytes())
    for n in steps:
        found.update(np.ascontiguousarray(seen.frame(int(n))).tobytes())
    return found.hexdigest()


def card_of(recipe: ForecastRecipe, seen: SeenCube, cube: Cube) -> MapCard:
    """The card before anything is learnt."""
    terms, box = seen.terms, cube.geobox
    config = {
        **recipe.config, "history": terms.seen, "aged": terms.history * terms.latest,
        "leads": list(terms.numbers), "levels": list(terms.quantiles),
        "background": terms.background is not None, "guess": terms.advected,
    }  # fmt: skip
    west, south, east, north = outline_of(box).bounds
    return MapCard(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        task=TASK,
        architecture=recipe.architecture,
        config=config,
        bands=(Band(name=cube.variable, mean=seen.mean, std=seen.std, unit=cube.unit),),
        gsd=metres_of(cube),
        anchor=phase_of(cube),
        dates=terms.channels,
        chip_size=recipe.chip_size,
        classes=(),
        channels=terms.raw,
        made=terms.model_dump(mode="json", exclude_defaults=True),
        float32=True,
        bbox=(max(west, -180.0), max(south, -90.0), min(east, 180.0), min(north, 90.0)),
    )


def metres_of(cube: Cube) -> float:
    """The size of a pixel; of degrees along the equator."""
    box = cube.geobox
    return float(abs(box.affine.e) * (DEGREE if box.crs is not None and box.crs.geographic else 1.0))


def phase_of(cube: Cube) -> float:
    """The anchor of its plane."""
    turns = cube.geobox.affine.c / cube.geobox.affine.a
    return 0.5 if abs(turns - round(turns)) > 0.25 else 0.0


def _climatology(seen: SeenCube, steps: NDArray[np.int64], folder: Path, source: CubeSource) -> None:
    """Fit it on training times, and write it where the package will lie."""
    days = (seen.frames.seconds_of(int(steps[-1])) - seen.frames.seconds_of(int(steps[0]))) / 86_400
    annual = 2 * (days >= DAYS) if source.annual is None else source.annual
    diurnal = 3 * (seen.terms.step.total_seconds() < 86_400 and days >= 2)
    each = ((seen.frames.seconds_of(int(n)), seen.transformed(seen.frame(int(n)))) for n in steps)
    seen.climatology = fit_harmonics(each, annual, diurnal, source.least)
    path = within(folder, CLIMATOLOGY)
    assert isinstance(seen.frames, CubeFrames)
    names = tuple(f"weight-{n}" for n in range(len(seen.climatology)))
    with CogWriter(
        path, seen.frames.cube.geobox, "float32", bands=len(names), nodata=float("nan"), descriptions=names
    ) as writer:
        writer.write(seen.climatology)
        writer.close()
    said = BackgroundTerms(file=CLIMATOLOGY, sha256=sha256(path), annual=annual, diurnal=diurnal)
    seen.terms = seen.terms.model_copy(update={"background": said})


def drawn(seen: SeenCube, at: Sequence[int], size: int, seed: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """A window at a reference time by chance, of two the one where more is to be seen, turned and mirrored: channels,
    looks and target."""
    random = np.random.default_rng(list(seed))
    time = int(at[int(random.integers(len(at)))])
    rows, columns = seen.frames.shape
    height, width = min(size, rows), min(size, columns)
    last = np.nan_to_num(seen.transformed(seen.frame(time)))
    best, most = Window(0, 0, height, width), -np.inf
    for _ in range(2):
        y, x = int(random.integers(rows - height + 1)), int(random.integers(columns - width + 1))
        if (much := float(last[y : y + height, x : x + width].sum())) > most:
            best, most = Window(y, x, y + height, x + width), much
    values, known = seen.channels(time, best)
    target = seen.target(time, best)
    turns, flip = int(random.integers(4)), bool(random.integers(2))
    square = height == width

    def turned(a: NDArray[Any]) -> Tensor:
        a = np.rot90(a, turns if square else 2 * (turns % 2), (-2, -1))
        return torch.from_numpy(np.ascontiguousarray(a[..., ::-1] if flip else a))

    return turned(values), turned(known), turned(target)


def _estimate(net: EstimatedForecast, seen: SeenCube, train: Sequence[int], recipe: ForecastRecipe) -> None:
    """On windows of training time. A climatology looks better on the days that it was made of than on others, so
    windows of each part of the time are seen beside that of the others."""
    every, wanted, parts = seen.climatology, seen.wanted, []
    steps = trained_steps(seen, train)
    of = np.array(train if wanted is None else sorted(wanted))
    folds = _folds(seen, of) if every is not None and len(train) >= FOLDS else [of]
    count = -(-max(ESTIMATED, len(train)) // len(folds))
    for fold, times in enumerate(folds):
        mine = [int(t) for t in times]
        if wanted is None:
            others = np.setdiff1d(steps, trained_steps(seen, mine))
            if seen.terms.background and not seen.terms.background.annual:
                others = np.intersect1d(others, trained_steps(seen, [int(t) for t in folds[1 - fold]]))
        else:  # what is foretold is held out, and not what was known before
            seen.wanted = frozenset(mine)
            others = np.setdiff1d(steps, times)
            mine = [t for t in train if any(t + k in seen.wanted for k in seen.terms.numbers)]
        if len(folds) > 1:
            seen.climatology = _harmonics(seen, others, source_of(recipe).least)
        parts += [drawn(seen, [mine[n % len(mine)]], recipe.chip_size, (recipe.seed, fold, n)) for n in range(count)]
    seen.climatology, seen.wanted = every, wanted
    net.estimate(*(torch.stack(part) for part in zip(*parts, strict=True)))


def _folds(seen: SeenCube, of: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Parts of the training time. A climatology that knows no season ages with it: there, the first and the last third
    are seen beside that of each other, as far away as what is forecast will be."""
    said = seen.terms.background
    if said is None or said.annual:
        return np.array_split(of, FOLDS)
    first, _, last = np.array_split(of, 3)
    return [first, last]


def _spread(net: EstimatedForecast, seen: SeenCube, val: Sequence[int], recipe: ForecastRecipe) -> None:
    """Quantiles by distance from the times that calibrate, in place of those of training time."""
    count = max(ESTIMATED, len(val))
    parts = [drawn(seen, [val[n % len(val)]], recipe.chip_size, (recipe.seed, n)) for n in range(count)]
    x, looks, target = (torch.stack(part) for part in zip(*parts, strict=True))
    window = net.config.layout.split(x, looks)
    net.fit_spread(window, torch.where(net.said(window), target, torch.nan))


def _harmonics(seen: SeenCube, steps: NDArray[np.int64], least: int) -> NDArray[np.float32]:
    said = seen.terms.background
    assert said is not None
    each = ((seen.frames.seconds_of(int(n)), seen.transformed(seen.frame(int(n)))) for n in steps)
    return fit_harmonics(each, said.annual, said.diurnal, least)


def calibrated(found: FittedGrid, at: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """What is added to the quantiles of each lead, in the unit as the model sees it, so that they hold at times that
    nothing was fitted on. Of few days the errors in common say little of the next ones, and the median stays. Where the
    highest one says less than what hardly counts, as on dry ground, none calibrates.
    """
    seen, terms = found.seen, found.terms
    quantiles, truth = [], []
    for time in at:
        raw = raw_of(found.net, seen, time).reshape(len(terms.leads), terms.values, *seen.frames.shape)
        target = seen.target(time, seen.whole)
        top = seen.physical(raw[:, -1] * seen.std + seen.mean)
        counts = np.isfinite(target) & np.isfinite(raw[:, 0]) & ((top >= terms.faint) | (terms.floor is None))
        random = np.random.default_rng(time)
        place = np.flatnonzero(counts.any(0))
        place = random.permutation(place)[:CALIBRATED]
        quantiles.append(np.moveaxis(raw.reshape(*raw.shape[:2], -1)[:, :, place], -1, 0))
        masked = np.where(counts, target, np.nan).reshape(len(target), -1)
        truth.append(masked[:, place].T)
    each = np.concatenate(quantiles).astype(np.float64), np.concatenate(truth).astype(np.float64)
    days = (seen.frames.seconds_of(at[-1]) - seen.frames.seconds_of(at[0])) / 86_400
    if days < FEW_DAYS and terms.transform == "none":
        shifts = symmetric_shifts(*each, terms.quantiles)
    else:
        shifts = conformal_shifts(*each, terms.quantiles)[0]
    return tuple(tuple(round(float(v), 6) for v in row) for row in shifts * seen.std)


@dataclass
class GridValidation:
    """Pinball loss of whole fields at the reference times that choose, in the normalised unit."""

    seen: SeenCube
    at: Sequence[int]
    levels: Sequence[float]
    key: str = "crps"
    larger_is_better: bool = False
    sums: list[tuple[float, int]] = field(default_factory=list)

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        for time in self.at:
            if rows(1) == slice(0, 1):
                values, known = self.seen.channels(time, self.seen.whole)
                target = torch.from_numpy(self.seen.target(time, self.seen.whole))[None]
                yield TrainingBatch((torch.from_numpy(values)[None], torch.from_numpy(known)[None]), target, 1)

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (raw,)

    def start(self) -> None:
        self.sums = []

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        loss, known = _loss(decoded[0], target, self.levels)
        self.sums.append((float(loss) * known, known))

    def compute(self) -> float | None:
        known = sum(n for _, n in self.sums)
        return sum(s for s, _ in self.sums) / known if known else None


def _loss(raw: Tensor, target: Tensor, levels: Sequence[float]) -> tuple[Tensor, int]:
    """Pinball loss where something is said and known, and how many values that are."""
    from geoml.nn.forecast.layout import SAID

    said = torch.unflatten(raw, 1, (target.shape[1], -1))[:, :, 0] > SAID
    target = torch.where(said, target, float("nan"))
    raw = torch.where(raw > SAID, raw, 0.0)
    return pinball_loss(raw, target, levels), int(torch.isfinite(target).sum())


def _learn(
    recipe: ForecastRecipe,
    found: FittedGrid,
    train: Sequence[int],
    val: Sequence[int],
    state: Path,
    on_epoch: OnEpoch | None,
) -> list[Any]:
    if not val:
        raise InputError(
            f"split: no reference time of val; {recipe.architecture} is trained, so it needs some "
            f"to choose the weights by"
        )
    seen, steps = found.seen, -(-recipe.samples // recipe.batch)

    def batches(epoch: int, rows: OwnRows) -> Iterable[TrainingBatch]:
        for step in range(steps):
            mine = range(step * recipe.batch, (step + 1) * recipe.batch)[rows(recipe.batch)]
            parts = [drawn(seen, train, recipe.chip_size, (recipe.seed, epoch, n)) for n in mine]
            x, looks, target = (torch.stack(part) for part in zip(*parts, strict=True))
            yield TrainingBatch((x, looks), target, recipe.batch)

    training = Training(
        name=recipe.name, lower="lr", net=found.net, batches=batches,
        loss=lambda raw, target: _loss(raw, target, recipe.levels)[0],
        optimiser=lambda: AdamW(found.net.parameters(), weight_decay=recipe.weight_decay),
        schedule=lambda o: OneCycleLR(o, max_lr=recipe.lr, total_steps=steps * recipe.epochs),
        epochs=recipe.epochs, device=choose(), clip=1.0, seed=recipe.seed,
        validation=GridValidation(seen, val, recipe.levels),
    )  # fmt: skip
    return list(learn(training, state, on_epoch).history)
