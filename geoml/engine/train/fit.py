"""Train a network of pixels: a recipe in, a model package with held-out scores out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geoml import models
from geoml.backends.torch import Device, choose
from geoml.data.chips import EvalBatches, OwnRows, PixelStatistics, Reader, TrainBatches, measure
from geoml.data.prepare import Splits, bounds, check, prepare, summary
from geoml.data.recipe import BY_BAND, FreezeFor, RasterRecipe, Schedule
from geoml.data.recipe import Optimiser as HowToStep
from geoml.engine.contract import AnyOutput, Rows, output_of
from geoml.engine.inference.predict import rows_of
from geoml.engine.packages import cards, package
from geoml.engine.run.domain import measured
from geoml.engine.task import PixelTask, find_pixel_task
from geoml.engine.train.evaluate import score
from geoml.engine.train.folds import score_folds, train_folds
from geoml.engine.train.loop import FrozenParts, Training, TrainingBatch, TrainingState, learn
from geoml.engine.train.solve import Described, Solvable, Solved, labelled, penalties_of, solve
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.engine.train.transfer import encoder_parts, take, transfer
from geoml.errors import InputError, ModelError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import TEMPERATURE, Band, MapCard

log = logging.getLogger(__name__)

VAL_CHIP = 256
"""Validation chips are at least as large, so that what their edges lack hardly counts."""

WEIGHTS = ("imagenet", "efficientnet-lite0")
RGB = ("red", "green", "blue")
"""Bands of the filters of networks that have seen photos."""


def fit(
    recipe: RasterRecipe,
    out: Path,
    *,
    resume: bool = True,
    on_epoch: OnEpoch | None = None,
) -> MapCard:
    """Train by the recipe and write a package to ``out``; the card holds split, statistics, history and scores.

    Goes on where a killed run of the same recipe stopped; a finished one is returned as it is, but that one without a
    record of its domain gets it. ``resume=False`` starts afresh. ``on_epoch`` gets epoch, loss, the score named by the
    task's ``key`` and best after every epoch. The weights with the best validation score are kept and scored on test,
    or on val where there is no test; where there is none to choose by (a class without a validation pixel), the last
    weights are kept. Raises InputError for a recipe that does not fit itself or the folder,
    NothingFound or DataError for its data, ModelError if the loss is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    kind = find_pixel_task(recipe.task)
    card = _finished(claim)
    if resume and card is not None:
        return card if card.domain else add_domain(recipe, card, out)
    if resume:
        _free(claim)
    # all that may be wrong is found before anything is written
    splits = prepare(recipe)
    if not splits["val"]:
        raise InputError("split: val is empty, nothing to choose the best weights by; add a split or `carve`")
    reader = Reader()
    check(splits, recipe, reader)
    kind.check_labels(recipe, splits, reader)
    seen, val = (measure(splits[name], recipe.target, reader, recipe.dates) for name in ("train", "val"))
    task = kind.learning(recipe, seen.counted, val.counted)
    torch.manual_seed(recipe.seed)
    module, config, start = build(recipe)
    parts = encoder_parts(module) if recipe.freeze != "none" or recipe.optimiser.encoder_factor != 1 else []
    card = _card(recipe, splits, config, seen).model_copy(update=dict(task.card_fields))
    device = choose(precision=None if recipe.precision == "auto" else recipe.precision)
    pixels = _Pixels(task, module, output_of(card), device, *_batches(recipe, splits, seen, reader))
    folder = claim.take(afresh=not resume)
    folds = train_folds(recipe, folder / "folds", partial(fit, on_epoch=on_epoch))
    if isinstance(module, Described):
        where = [b.wavelength for b in card.bands] * recipe.dates
        module.describe(pixels.train.mean.tolist(), pixels.train.std.tolist(), where)
    if isinstance(module, Solvable):
        known = labelled(splits["train"], recipe.target, reader, pixels.train.mean, pixels.train.std)
        net = _Standardised(module, pixels.train.mean, pixels.train.std, device)
        done: TrainingState | Solved = solve(module, net, penalties_of(recipe), known, pixels)
    else:
        done = learn(_training(recipe, module, pixels, parts), folder, on_epoch)
    told = {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash,
        "start": start,
        "split": summary(splits),
        **task.notes,
        "best_epoch": done.best_epoch,
        f"val_{task.key}": done.best,
        "history": done.history,
    }
    card = card.model_copy(update={"domain": measured(splits, recipe, reader)})
    card = package.save(module, card.model_copy(update={"training": told}), out)
    card = card.model_copy(update=dict(kind.judged(package.Package(module, card, out), recipe, splits, reader)))
    if folds:
        scores, temperature = score_folds(folds, recipe, reader)
        if temperature is not None:
            card = card.model_copy(update={"made": {**card.made, TEMPERATURE: temperature}})
    else:
        scored_on = "test" if splits["test"] else "val"
        scores = {"split": scored_on, **score(package.Package(module, card, out), splits[scored_on], recipe, reader)}
    card = card.model_copy(update={"scores": scores})
    cards.write(card, out)
    claim.forget()
    return card


def add_domain(recipe: RasterRecipe, card: MapCard, out: Path) -> MapCard:
    """Write the record of the training data into the card of a finished package of the recipe.

    Raises InputError for a recipe that does not fit its data or a split that leaks, NothingFound if there are no
    data, DataError for a file that cannot be read.
    """
    card = card.model_copy(update={"domain": measured(prepare(recipe), recipe, Reader())})
    cards.write(card, out)
    return card


def build(recipe: RasterRecipe) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """The network, the config for its card (without weights to start from), and what it started from."""
    if models.calibrated(recipe.model.architecture):
        raise InputError(f"model: {recipe.model.architecture} is not trained; `geoml models new` writes its package")
    raw = output_of(_blank(recipe)).raw
    fixed = models.fixed_by_data(recipe.model.architecture, len(recipe.bands), recipe.dates, raw)
    config = {**recipe.model.config, **fixed}
    if recipe.init in WEIGHTS:
        module = models.build(recipe.model.architecture, {**config, "encoder_weights": recipe.init})
        return module, config, {"weights": recipe.init}
    module = models.build(recipe.model.architecture, config)
    if recipe.init == BY_BAND:
        published = models.build(
            recipe.model.architecture, {**config, "bands": len(RGB), "encoder_weights": WEIGHTS[1]}
        )
        take(module, published.state_dict(), RGB, recipe.bands)
        return module, config, {"weights": recipe.init}
    return module, config, transfer(module, recipe.init, recipe.bands) if recipe.init else {}


def _batches(
    recipe: RasterRecipe, splits: Splits, seen: PixelStatistics, reader: Reader
) -> tuple[TrainBatches, EvalBatches]:
    mean, std = (np.tile(v.astype(np.float32), recipe.dates) for v in (seen.mean, seen.std))
    size = max(recipe.chip_size, VAL_CHIP)
    val = EvalBatches(splits["val"], recipe.target, size, recipe.batch, reader)
    return TrainBatches(splits["train"], recipe, mean, std, reader), val


class _Standardised(nn.Module):
    """(B,C,S,S) physical values and (B,S,S) valid to what a network of standardised values gives."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: NDArray[np.float32], std: NDArray[np.float32], device: Device) -> None:
        super().__init__()
        self.net, self.device = net, device
        self.register_buffer("mean", torch.from_numpy(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.from_numpy(std).reshape(-1, 1, 1), persistent=False)

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        x = (image - self.mean) / self.std * valid.unsqueeze(1)
        with self.device.autocast():
            raw: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return raw


@runtime_checkable
class OwnLoss(Protocol):
    """A network that learns by another loss than that of its task, see `geoml.models`."""

    def loss(self, raw: Tensor, target: Tensor) -> Tensor: ...


class _Pixels:
    """Batches, loss and validation of a task of pixels."""

    def __init__(
        self,
        task: PixelTask,
        module: nn.Module,
        output: AnyOutput,
        device: Device,
        train: TrainBatches,
        val: EvalBatches,
    ) -> None:
        self.task, self.output, self.device, self.train, self.val = task, output, device, train, val
        self.teacher = module if isinstance(module, OwnLoss) else task
        self.key, self.larger_is_better = task.key, task.larger_is_better
        self.scores = task.scores()

    def drawn(self, epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
        return (TrainingBatch((b.image, b.valid), b.target, b.size) for b in self.train.of(epoch, rows))

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        with self.device.autocast():
            return self.teacher.loss(raw, target)

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        return (TrainingBatch((b.image, b.valid), b.target, b.size) for b in self.val.of(rows))

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self.output.joiner == "owner":  # what it finds has another length for each chip
            return raw.float(), x[1]
        with self.device.autocast():
            return tuple(self.output.encode_raw(raw))

    def start(self) -> None:
        self.scores = self.task.scores()

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        if self.output.joiner == "owner":
            for raw, known, truth in zip(*decoded, target, strict=True):
                chip = Window(0, 0, *known.shape)
                found = {k: v.numpy() for k, v in self.output.candidates(raw, chip, known).items()}
                self.scores.update(*self.output.answer(Rows(chip, found)), truth.numpy())
            return
        rows = rows_of(self.output, decoded, np.ones(target.shape, np.bool_))
        self.scores.update(*self.output.answer(rows), target.numpy().reshape(-1, target.shape[-1]))

    def compute(self) -> float | None:
        found = self.scores.compute()
        if not found["pixels"]:
            raise ModelError("val: not a single labelled pixel with data to choose the best weights by")
        score: float | None = found[self.key]
        return score


def _training(recipe: RasterRecipe, module: nn.Module, pixels: _Pixels, parts: Sequence[nn.Module]) -> Training:
    how, train = recipe.freeze, pixels.train
    net = _Standardised(module, train.mean, train.std, pixels.device)
    net.to(memory_format=torch.channels_last)
    return Training(
        name=recipe.name, lower="optimiser.lr", net=net, batches=pixels.drawn, loss=pixels.loss,
        optimiser=partial(_optimiser, module, recipe.optimiser, parts), clip=recipe.optimiser.clip,
        schedule=partial(_schedule, recipe.schedule, recipe.epochs * len(train)), epochs=recipe.epochs,
        frozen=None if how == "none" else FrozenParts(parts, how.epochs if isinstance(how, FreezeFor) else None),
        device=pixels.device, seed=recipe.seed, validation=pixels, stopping=recipe.early_stopping,
        averaging=recipe.averaging,
    )  # fmt: skip


def _optimiser(module: nn.Module, how: HowToStep, encoders: Sequence[nn.Module]) -> Optimizer:
    inner = {id(p) for part in encoders for p in part.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        groups.setdefault((id(parameter) in inner, parameter.ndim > 1), []).append(parameter)
    options = [
        {
            "params": group,
            "lr": how.lr * (how.encoder_factor if encoder else 1.0),
            "weight_decay": how.weight_decay if matrix else 0.0,  # not for biases and norms
        }
        for (encoder, matrix), group in groups.items()
    ]
    return AdamW(options) if how.kind == "adamw" else SGD(options, momentum=0.9, nesterov=True)


def _schedule(how: Schedule, steps: int, optimiser: Optimizer) -> LambdaLR:
    """A linear rise to the largest learning rate, then flat or a half cosine to nearly zero, by step."""
    rise = max(1, round(how.warmup * steps))

    def at(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if how.kind == "constant":
            return 1.0
        return max(1e-3, 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))))

    return LambdaLR(optimiser, at)


def _blank(recipe: RasterRecipe) -> MapCard:
    """What the card says whatever the data are."""
    return MapCard(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        architecture=recipe.model.architecture,
        config=recipe.model.config,
        task=recipe.task,
        bands=tuple(Band(name=b) for b in recipe.bands),
        dates=recipe.dates,
        gsd=recipe.gsd,
        anchor=recipe.source.phase,
        chip_size=recipe.chip_size,
        overlap=min(64, recipe.chip_size // 4),
        **recipe.card_fields,
    )


def _card(recipe: RasterRecipe, splits: Splits, config: dict[str, Any], seen: PixelStatistics) -> MapCard:
    units = next((p.scene.units for p in splits["train"] if p.scene.units), recipe.band_units)
    mean, std = (v.astype(np.float32).tolist() for v in (seen.mean, seen.std))
    bands = tuple(
        Band(name=b, mean=m, std=s, unit=u) for b, m, s, u in zip(recipe.bands, mean, std, units, strict=True)
    )
    return _blank(recipe).model_copy(update={"config": config, "bands": bands, "bbox": bounds(splits["train"])})


def _finished(claim: FolderClaim) -> MapCard | None:
    """The card of a complete package of this recipe."""
    if not (claim.out / "model.json").exists() or claim.state.exists():
        return None
    card = cards.read(claim.out, MapCard)
    return card if card.training.get("recipe_hash") == claim.hash else None


def _free(claim: FolderClaim) -> None:
    """Raise InputError, naming the fields that differ, when another recipe has been or is being trained there."""
    claim.check()
    if not claim.state.exists() and (claim.out / "model.json").exists():
        said = claim.other(cards.read(claim.out, MapCard).training.get("recipe"))
        raise InputError(f"out: {claim.out} contains a model of a different recipe: {said}")
