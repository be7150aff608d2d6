"""Held-out scores of a model package on a split of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoml.data.chips import Batch, EvalBatches, Reader
from geoml.data.prepare import held_out, prepare
from geoml.data.recipe import TrainRecipe
from geoml.data.scene import Piece
from geoml.engine import package
from geoml.engine.device import Device, choose
from geoml.errors import InputError
from geoml.io.card import ModelCard
from geoml.tasks.segmentation import Task


def evaluate(model: str | Path, recipe: TrainRecipe, split: str = "test") -> dict[str, Any]:
    """Scores of a package (name or folder) on ``split`` of the recipe, as plain JSON values.

    Per class: iou, f1, precision, recall; over all: overall_accuracy, miou, mean_f1, confusion (rows: truth), ece and
    calibration bins, pixels counted, and ``baseline``: the same for a map that is everywhere the commonest class.
    Every labelled pixel with data counts once. Raises InputError for an empty split and when model and recipe differ.
    """
    loaded = package.load(str(model))
    check_fit(loaded.card, recipe)
    pieces = held_out(prepare(recipe), split)
    found = score(loaded.module, loaded.card, pieces)
    return {"model": loaded.card.name, "sha256": loaded.card.sha256, "recipe": recipe.hash, "split": split, **found}


def check_fit(card: ModelCard, recipe: TrainRecipe) -> None:
    """Raise InputError, naming the field, where the card and the recipe speak of different things."""
    have, want = [b.name for b in card.bands], list(recipe.bands)
    if have != want:
        raise InputError(f"bands: the model takes {have}, the recipe gives {want}")
    mine = {c.value: c.name for c in card.classes}
    theirs = {c.value: c.name for c in recipe.classes}
    if mine != theirs:
        raise InputError(f"classes: the model knows {mine}, the recipe has {theirs}")
    if abs(card.gsd / recipe.gsd - 1) > 0.1:
        raise InputError(f"gsd: the model is for {card.gsd} m, the recipe has {recipe.gsd} m")


def score(module: nn.Module, card: ModelCard, pieces: Sequence[Piece], reader: Reader | None = None) -> dict[str, Any]:
    """Scores of a module in eval mode over pieces whose targets are indices into ``card.classes``."""
    device = choose()
    mean, std = statistics(card)
    batches = EvalBatches(pieces, card.chip_size, max(device.batch, 4), reader)
    task = Task(len(card.classes))
    scores = task.scores()
    placed = device.place(module).eval()
    with torch.inference_mode(), device.autocast():
        for batch in batches:
            raw = placed(standardise(batch.to(device.torch), mean, std, device))
            index, confidence = task.decode(raw)
            task.check(confidence.cpu().numpy())
            scores.update(index.cpu().numpy(), confidence.cpu().numpy(), batch.target.numpy())
    names = [c.name for c in card.classes]
    return {**named(scores.compute(), names), "scenes": len({p.scene.id for p in pieces})}


def statistics(card: ModelCard) -> tuple[Tensor, Tensor]:
    """Mean and std of the card as (C, 1, 1) float32."""
    shape = (-1, 1, 1)
    mean = torch.tensor([b.mean for b in card.bands], dtype=torch.float32).reshape(shape)
    return mean, torch.tensor([b.std for b in card.bands], dtype=torch.float32).reshape(shape)


def standardise(batch: Batch, mean: Tensor, std: Tensor, device: Device) -> Tensor:
    """(B,C,S,S) float32 as the model sees it: (value - mean) / std, 0 where there is no data."""
    image = (batch.image - mean.to(device.torch)) / std.to(device.torch)
    return (image * batch.valid.unsqueeze(1)).contiguous(memory_format=torch.channels_last)


def named(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Scores with a name for each class, and what the commonest class everywhere would score."""
    per_class = ("iou", "f1", "precision", "recall")
    out = {k: dict(zip(names, v, strict=True)) if k in per_class else v for k, v in scores.items()}
    truth = np.array(scores["confusion"]).sum(1)
    if truth.sum():
        share = float(truth.max() / truth.sum())
        occur = int((truth > 0).sum())
        out["baseline"] = {"class": names[int(truth.argmax())], "overall_accuracy": share, "miou": share / occur}
    return out
