"""Train a classifier of points: a recipe in, a package with scores of the clouds that are held out.

Each step sees one chip of one cloud, turned, thinned and shifted by chance. Where a code may mean several classes the
loss is of the probability of all of them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml import models
from geoml.data.chips import OwnRows
from geoml.elevation.accuracy.point_scores import PointScores
from geoml.elevation.training.clouds import LEAST, LabelledCloud, chip, clouds
from geoml.elevation.training.recipe import PointRecipe
from geoml.elevation.training.score import scores_of
from geoml.engine.cards.point_classes import PointCard
from geoml.engine.packages import points
from geoml.engine.packages.points import PointPackage
from geoml.engine.train.loop import Training, TrainingBatch, learn
from geoml.engine.train.state import FolderClaim
from geoml.engine.train.team import OnEpoch
from geoml.errors import NothingFound

TRIES = 100
"""Chips that are drawn for one with anything to learn from."""


def fit(recipe: PointRecipe, out: Path, on_epoch: OnEpoch | None = None) -> PointCard:
    """Train by the recipe and write a package to ``out``; one that was stopped goes on.

    Raises InputError for a recipe that does not fit and for splits that share ground, NothingFound or DataError for its
    clouds, MissingExtra without laspy, ModelError if the loss is not finite.
    """
    out = Path(out)
    claim = FolderClaim(out, recipe, recipe.hash)
    if (earlier := claim.finished(PointCard)) is not None:
        return earlier
    claim.check()
    torch.manual_seed(recipe.seed)
    card = card_of(recipe)
    net = points.build(card)
    train = clouds(recipe, "train")
    done = learn(training_of(recipe, card, net, train), claim.take(), on_epoch)
    package = PointPackage(net, card, out)
    told = {
        "recipe": recipe.model_dump(mode="json"), "recipe_hash": recipe.hash, "history": done.history,
        "clouds": {cloud.name: len(cloud) for cloud in train},
    }  # fmt: skip
    scores = {**scores_of(package, recipe, "test")} if has(recipe, "test") else {}
    card = points.save(net, card.model_copy(update={"training": told, "scores": scores}), out)
    claim.forget()
    return card


def card_of(recipe: PointRecipe) -> PointCard:
    """The card before anything is learnt. Raises InputError for a config that does not fit."""
    config = models.configure(recipe.architecture, {**recipe.config, "classes": len(recipe.classes)})
    return PointCard(
        name=recipe.name, description=recipe.description, license=recipe.license, architecture=recipe.architecture,
        config=recipe.config, voxel=config.voxel, radius=config.halo, classes=recipe.classes,
    )  # fmt: skip


def has(recipe: PointRecipe, split: str) -> bool:
    """Whether the recipe holds out clouds for a split."""
    return bool(getattr(recipe.split, split))


def training_of(recipe: PointRecipe, card: PointCard, net: nn.Module, train: Sequence[LabelledCloud]) -> Training:
    """What the loop trains, all of which can go to another process."""
    return Training(
        name=recipe.name, lower="lr", net=net, batches=partial(_epoch, recipe, card, train), loss=set_loss,
        optimiser=partial(AdamW, net.parameters(), weight_decay=recipe.weight_decay),
        schedule=partial(OneCycleLR, max_lr=recipe.lr, total_steps=recipe.steps * recipe.epochs),
        epochs=recipe.epochs, clip=5.0, seed=recipe.seed,
        validation=PointValidation(recipe, card, clouds(recipe, "val")) if has(recipe, "val") else None,
    )  # fmt: skip


def set_loss(raw: Tensor, may: Tensor) -> Tensor:
    """Scalar: minus the log of the probability that (n, K) logits give to the classes that each point may be.

    ``may`` is (n, K) bool; points that may be any class or none, of which nothing is known, have no part.
    """
    known = may.any(1) & ~may.all(1)
    log = torch.log_softmax(raw[known].float(), 1).masked_fill(~may[known], -torch.inf)
    return -torch.logsumexp(log, 1).sum() / known.sum().clamp_min(1)


def _epoch(
    recipe: PointRecipe, card: PointCard, train: Sequence[LabelledCloud], epoch: int, rows: OwnRows
) -> Iterator[TrainingBatch]:
    """A batch is one chip, so it has one row that processes could share."""
    for step in range(recipe.steps):
        random = np.random.default_rng([recipe.seed, epoch, step])
        for _ in range(TRIES):
            columns, may = chip(train, recipe.chip, recipe.augmentation, random)
            if len(may) >= LEAST and np.any(may):
                break
        else:
            raise NothingFound(f"sources: no chip of {TRIES} has {LEAST} points, some of them with a class")
        order, x = points.arguments_of(card, columns)
        yield TrainingBatch(x, _bits(may[order], len(card.classes)), 1)


def _bits(may: np.ndarray[tuple[int], np.dtype[np.int64]], classes: int) -> Tensor:
    return torch.from_numpy((may[:, None] >> np.arange(classes)) & 1 > 0)


@dataclass
class PointValidation:
    """Mean IoU of the clouds that choose."""

    recipe: PointRecipe
    card: PointCard
    clouds: Sequence[LabelledCloud]
    key: str = PointScores.key
    larger_is_better: bool = PointScores.larger_is_better
    scores: PointScores = field(init=False)

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        for cloud in self.clouds:
            order, x = points.arguments_of(self.card, cloud.columns)
            yield TrainingBatch(x, torch.from_numpy(cloud.may[order]), 1)

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (raw.argmax(1),)

    def start(self) -> None:
        self.scores = PointScores([c.name for c in self.card.classes])

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        self.scores.update(decoded[0].numpy(), target.numpy())

    def compute(self) -> float | None:
        found: float | None = self.scores.compute()[self.key]
        return found
