"""The fit loop: a recipe in, a model package with held-out scores out.

The loop itself is Lightning's. All randomness depends on the seed, the epoch and the place in it, and the state is
written after every epoch, so a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

from geoml import models, tasks
from geoml.data.chips import EvalBatches, Reader, TrainBatches, measure
from geoml.data.prepare import Splits, bounds, check, prepare, summary
from geoml.data.recipe import TrainRecipe, swapped
from geoml.engine.machine.device import Device, choose
from geoml.engine.packages import cards, package
from geoml.engine.run.domain import measured
from geoml.engine.train.evaluate import score
from geoml.engine.train.loop import PROGRESS, Keeper, Loop
from geoml.engine.train.transfer import encoder_parts, transfer
from geoml.errors import DataError, InputError
from geoml.io.cards.map_card import Band, MapCard
from geoml.io.stores.store import read_small, within, write_json
from geoml.recipe import differences

log = logging.getLogger(__name__)

STATE = ".fit"
"""Folder below the output that holds the state of a run; it is removed when the package is complete."""

NOTE = "recipe.json"
"""In it: which recipe."""

VAL_CHIP = 256
"""Validation chips are at least as large, so that what their edges lack hardly counts."""

WEIGHTS = ("imagenet", "efficientnet-lite0")


def fit(
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool = True,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> MapCard:
    """Train by the recipe and write a package to ``out``; the card holds split, statistics, history and scores.

    Goes on where a killed run of the same recipe stopped; a finished one is returned as it is, but that one without a
    record of its domain gets it. ``resume=False`` starts afresh. ``on_epoch`` gets epoch, loss, miou and best after
    every epoch. The weights with the best validation mIoU are kept and scored on test, or on val where there is no
    test; where a class has no validation pixel there is no mIoU to choose by, the last weights are kept and the class
    is named in the log and the card. Raises InputError for a recipe that does not fit itself or the folder,
    NothingFound or DataError for its data, ModelError when the loss is not finite.
    """
    out, state = Path(out), Path(out) / STATE
    kind = tasks.find(recipe.task)
    card = _finished(out, recipe)
    if resume and card is not None:
        return card if card.domain else add_domain(recipe, card, out)
    _free(out, state, recipe, resume)
    # all that may be wrong is found before anything is written
    splits = prepare(recipe)
    if not splits["val"]:
        raise InputError("split: val is empty, nothing to choose the best weights by; add a split or `carve`")
    reader = Reader()
    check(splits, recipe, reader)
    found = measure(splits["train"], len(recipe.classes), reader, recipe.dates)
    mean, std = (np.tile(found[k].astype(np.float32), recipe.dates) for k in ("mean", "std"))
    weights = class_weights(recipe, found["labelled"])
    absent = _absent(recipe, splits, found["labelled"], reader)
    torch.manual_seed(recipe.seed)
    module, config, start = build(recipe)
    if recipe.freeze != "none" or recipe.optimiser.encoder_factor != 1:
        encoder_parts(module)
    task = kind.Task(len(recipe.classes), recipe.loss.parts, weights)
    device = choose(precision=None if recipe.precision == "auto" else recipe.precision)
    _claim(out, state, recipe, resume)
    size, batch = recipe.chip_size, recipe.batch
    train = TrainBatches(
        splits["train"],
        size,
        batch,
        recipe.sampling,
        recipe.augmentation,
        recipe.seed,
        mean,
        std,
        reader,
        recipe.dates,
        swapped(recipe.classes) if recipe.augmentation.swap else (),
    )
    val = EvalBatches(splits["val"], max(size, VAL_CHIP), batch, reader)
    keeper = Keeper(state, recipe.epochs, recipe.early_stopping, on_epoch)
    if not keeper.done:
        loop = Loop(module, task, recipe, mean, std, train)
        _run(loop, train, val, recipe, keeper, device)
    keeper.restore(module)
    card = _card(recipe, splits, config, *(v[: len(recipe.bands)].tolist() for v in (mean, std)))
    training = {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash,
        "start": start,
        "split": summary(splits),
        "labelled_pixels": dict(zip((c.name for c in recipe.classes), found["labelled"].tolist(), strict=True)),
        "class_weights": weights,
        **({"absent": absent} if absent else {}),
        "best_epoch": keeper.best_epoch,
        "val_miou": keeper.best,
        "history": keeper.history,
    }
    card = card.model_copy(update={"domain": measured(splits, recipe, reader)})
    scored_on = "test" if splits["test"] else "val"
    card = package.save(module.cpu(), card.model_copy(update={"training": training}), out)
    scores = {"split": scored_on, **score(package.load(out), splits[scored_on], reader)}
    card = card.model_copy(update={"scores": scores})
    cards.write(card, out)
    shutil.rmtree(state)
    return card


def add_domain(recipe: TrainRecipe, card: MapCard, out: Path) -> MapCard:
    """Write the record of the training data into the card of a finished package of the recipe. Raises as `prepare`."""
    card = card.model_copy(update={"domain": measured(prepare(recipe), recipe, Reader())})
    cards.write(card, out)
    return card


def build(recipe: TrainRecipe) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """The network, the config for its card (without weights to start from), and what it started from."""
    if models.calibrated(recipe.model.architecture):
        raise InputError(f"model: {recipe.model.architecture} is not trained; `geoml models new` writes its package")
    fixed = models.given(recipe.model.architecture, len(recipe.bands), recipe.dates, len(recipe.classes))
    config = {**recipe.model.config, **fixed}
    if recipe.init in WEIGHTS:
        module = models.build(recipe.model.architecture, {**config, "encoder_weights": recipe.init})
        return module, config, {"weights": recipe.init}
    module = models.build(recipe.model.architecture, config)
    return module, config, transfer(module, recipe.init, recipe.bands) if recipe.init else {}


def class_weights(recipe: TrainRecipe, labelled: np.ndarray) -> list[float] | None:
    """One weight for each class, mean 1 over train pixels for ``auto``; a class without pixels gets the largest."""
    given = recipe.loss.weights
    if given == "none":
        return None
    if given != "auto":
        return list(given)
    share = labelled / max(labelled.sum(), 1)
    raw = 1 / np.maximum(share, 1e-12)
    raw = np.minimum(raw, 10 * raw.min())
    return [float(w) for w in raw / (raw * share).sum()]


def _absent(recipe: TrainRecipe, splits: Splits, trained: np.ndarray, reader: Reader) -> dict[str, list[str]]:
    """Names of the classes without a labelled pixel in train and val, by split; also said in the log."""
    counts = {"train": trained, "val": measure(splits["val"], len(recipe.classes), reader, recipe.dates)["labelled"]}
    found = {}
    for split, labelled in counts.items():
        if names := [c.name for c, n in zip(recipe.classes, labelled, strict=True) if not n]:
            found[split] = names
    if "train" in found:
        log.warning("train: no labelled pixel of %s; it cannot be learnt", ", ".join(found["train"]))
    if "val" in found:
        log.warning(
            "val: no labelled pixel of %s, so there is no mIoU to choose weights by; the last ones are kept",
            ", ".join(found["val"]),
        )
    return found


def _run(
    loop: Loop, train: TrainBatches, val: EvalBatches, recipe: TrainRecipe, keeper: Keeper, device: Device
) -> None:
    kind = device.torch.type
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if kind == "cuda" else kind,
            devices=[device.torch.index or 0] if kind == "cuda" else 1,
            precision="bf16-mixed" if device.bf16 else "32-true",
            max_epochs=recipe.epochs,
            callbacks=[keeper],
            gradient_clip_val=recipe.optimiser.clip or None,
            default_root_dir=keeper.folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        loop.net.to(memory_format=torch.channels_last)
        trainer.fit(loop, train, val, ckpt_path=keeper.last, weights_only=True)


def _card(
    recipe: TrainRecipe, splits: Splits, config: dict[str, Any], mean: Sequence[float], std: Sequence[float]
) -> MapCard:
    seen = next((p.scene.units for p in splits["train"] if p.scene.units), recipe.band_units)
    bands = tuple(
        Band(name=b, mean=float(m), std=float(s), unit=u)
        for b, m, s, u in zip(recipe.bands, mean, std, seen, strict=True)
    )
    return MapCard(
        name=recipe.name,
        description=recipe.description,
        license=recipe.license,
        architecture=recipe.model.architecture,
        config=config,
        task=recipe.task,
        bands=bands,
        dates=recipe.dates,
        gsd=recipe.gsd,
        anchor=getattr(recipe.source, "anchor", 0.0),
        chip_size=recipe.chip_size,
        overlap=min(64, recipe.chip_size // 4),
        classes=recipe.classes,
        bbox=bounds(splits["train"]),
    )


def _finished(out: Path, recipe: TrainRecipe) -> MapCard | None:
    """The card of a complete package of this recipe in ``out``."""
    if not (out / "model.json").exists() or (out / STATE).exists():
        return None
    card = cards.read(out, MapCard)
    return card if card.training.get("recipe_hash") == recipe.hash else None


def _free(out: Path, state: Path, recipe: TrainRecipe, resume: bool) -> None:
    """Raise InputError, naming the fields that differ, when another recipe has been or is being trained in ``out``.

    A training that has not come to the end of an epoch holds no one up.
    """
    if not resume:
        return
    if (state / PROGRESS).exists():
        try:
            before = json.loads(read_small(state / NOTE) or b"{}")
        except (ValueError, RecursionError, DataError):
            before = {}
        if before.get("hash") != recipe.hash:
            said = _other(before.get("recipe"), recipe)
            raise InputError(f"out: {out} holds an unfinished run of another recipe: {said}, or delete {state}")
    elif not state.exists() and (out / "model.json").exists():
        said = _other(cards.read(out, MapCard).training.get("recipe"), recipe)
        raise InputError(f"out: {out} holds a model of another recipe: {said}")


def _other(before: dict[str, Any] | None, recipe: TrainRecipe) -> str:
    said = differences(before, recipe, ("description",)) if before else ""
    return f"{said or 'its fields are not written down there'}; choose another folder"


def _claim(out: Path, state: Path, recipe: TrainRecipe, resume: bool) -> None:
    """Make ``out`` the folder of this recipe, whose training goes on there if it has begun. Raises InputError."""
    try:
        if not resume or not (state / PROGRESS).exists():
            shutil.rmtree(state, ignore_errors=True)
        within(out, f"{STATE}/{NOTE}").parent.mkdir(parents=True, exist_ok=True)
        write_json(state / NOTE, {"hash": recipe.hash, "recipe": recipe.model_dump(mode="json")})
    except OSError as err:
        raise InputError(f"out: {out} cannot be written ({err.strerror}); expected a folder of yours") from err


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its greetings; that a GPU stays unused is the settings' choice."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*available but not used.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 with torch 2.15, its own code
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
