"""What Lightning runs for `geoml.engine.train.fit`: one step, one validation, and what is kept after every epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from geoml.data.chips import Batch, TrainBatches
from geoml.data.recipe import EarlyStopping, FreezeFor, Schedule, TrainRecipe
from geoml.engine.contract import PixelOutput
from geoml.engine.inference.predict import stored
from geoml.engine.train.transfer import encoder_parts, freeze
from geoml.errors import DataError, ModelError
from geoml.io.stores.store import atomic, read_small, write_json
from geoml.tasks import Task

PROGRESS = "progress.json"
"""What came of the epochs that are done."""


class Loop(lightning.LightningModule):
    """One network, one task and its output. Batches hold physical values; they are standardised here."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        output: PixelOutput,
        recipe: TrainRecipe,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        batches: TrainBatches,
    ) -> None:
        super().__init__()
        self.net, self.task, self.output, self.recipe, self.batches = net, task, output, recipe, batches
        self.register_buffer("mean", torch.from_numpy(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.from_numpy(std).reshape(-1, 1, 1), persistent=False)
        self.encoders = encoder_parts(net) if recipe.freeze != "none" or recipe.optimiser.encoder_factor != 1 else []
        self.scores = task.scores()
        self.losses: list[float] = []

    def forward(self, batch: Batch) -> Tensor:
        image = (batch.image - self.mean) / self.std * batch.valid.unsqueeze(1)
        raw: Tensor = self.net(image.contiguous(memory_format=torch.channels_last))
        return raw

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches.epoch = checkpoint["epoch"] + 1  # the first iterator is made before on_train_epoch_start

    def on_train_epoch_start(self) -> None:
        self.batches.epoch = self.current_epoch
        self.losses = []
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.current_epoch)  # dropout repeats after a resume
        how = self.recipe.freeze
        if how != "none":
            freeze(self.encoders, self.current_epoch < how.epochs if isinstance(how, FreezeFor) else True)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = self.task.loss(self(batch), batch.target)
        self.losses.append(float(loss.detach()))
        if not math.isfinite(self.losses[-1]):
            raise ModelError(f"loss: {self.losses[-1]} in epoch {self.current_epoch}; lower optimiser.lr or use fp32")
        return loss

    def on_validation_epoch_start(self) -> None:
        self.scores = self.task.scores()

    def validation_step(self, batch: Batch, _: int) -> None:
        known = np.ones(batch.target.shape, np.bool_)
        answer = self.output.answer(stored(self.output, self(batch), known))
        self.scores.update(*answer, batch.target.cpu().numpy().reshape(-1, known.shape[-1]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        how = self.recipe.optimiser
        inner = {id(p) for part in self.encoders for p in part.parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.net.parameters():
            groups.setdefault((id(parameter) in inner, parameter.ndim > 1), []).append(parameter)
        options = [
            {
                "params": group,
                "lr": how.lr * (how.encoder_factor if encoder else 1.0),
                "weight_decay": how.weight_decay if matrix else 0.0,  # not for biases and norms
            }
            for (encoder, matrix), group in groups.items()
        ]
        optimiser: Optimizer = AdamW(options) if how.kind == "adamw" else SGD(options, momentum=0.9, nesterov=True)
        steps = self.recipe.epochs * len(self.batches)
        scheduler = LambdaLR(optimiser, _curve(self.recipe.schedule, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _curve(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """Learning rate relative to the largest, by step: a linear rise, then flat or a half cosine to nearly zero."""
    rise = max(1, round(schedule.warmup * steps))

    def at(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if schedule.kind == "constant":
            return 1.0
        return max(1e-3, 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))))

    return at


def _history(body: bytes, path: Path) -> list[dict[str, float | None]]:
    """The rows of ``progress.json``. Raises DataError for what is none."""
    try:
        rows = [{str(k): v for k, v in row.items()} for row in json.loads(body)["history"]]
        good = all(isinstance(row["miou"], float | int | None) for row in rows)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        good, rows = False, []
    if not good:
        raise DataError(f"{path}: not the progress of a training; delete its folder to start afresh")
    return rows


class Keeper(lightning.Callback):
    """Keeps the best weights, the state to resume from and the history; stops when nothing gets better.

    Files of ``folder``: best-EPOCH.safetensors, progress.json, last.ckpt. Each appears whole, in this order, after
    every epoch; a kill between two of them repeats that epoch, since the history also travels in last.ckpt.
    """

    def __init__(
        self,
        folder: Path,
        epochs: int,
        stopping: EarlyStopping | None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.folder, self.epochs, self.stopping, self.on_epoch = folder, epochs, stopping, on_epoch
        self.history: list[dict[str, float | None]] = []
        if (progress := read_small(folder / PROGRESS)) is not None:
            self.history = _history(progress, folder / PROGRESS)

    @property
    def last(self) -> Path | None:
        """The state to resume from."""
        path = self.folder / "last.ckpt"
        return path if path.exists() else None

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = state_dict["history"]

    @property
    def best_epoch(self) -> int:
        """The epoch with the highest validation mIoU, by at least ``min_delta`` over the best before it; -1: none.

        Without mIoU (a class has no validation pixel) nothing can choose, and it is the last one.
        """
        delta = self.stopping.min_delta if self.stopping else 0.0
        best, top = -1, -math.inf
        for epoch, row in enumerate(self.history):
            miou = row["miou"]
            if miou is None:
                best = epoch
            elif miou > top + delta:
                best, top = epoch, miou
        return best

    @property
    def best(self) -> float | None:
        """Validation mIoU of the weights that are kept; None where it has no meaning."""
        return self.history[self.best_epoch]["miou"] if self.history else None

    @property
    def done(self) -> bool:
        count = len(self.history)
        waited = count - 1 - self.best_epoch
        return count >= self.epochs or (self.stopping is not None and count > 0 and waited >= self.stopping.patience)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Loop)
        epoch = trainer.current_epoch
        scores = pl_module.scores.compute()
        if not scores["pixels"]:
            raise ModelError("val: not a single labelled pixel with data to choose the best weights by")
        row = {"epoch": epoch, "loss": float(np.mean(pl_module.losses)), "miou": scores["miou"]}
        self.history = [*self.history[:epoch], row]
        if self.best_epoch == epoch:
            with atomic(self._weights(epoch)) as tmp:
                state = pl_module.net.state_dict()
                save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, tmp)
        write_json(self.folder / PROGRESS, {"history": self.history})
        with atomic(self.folder / "last.ckpt") as tmp:
            trainer.save_checkpoint(tmp)
        for old in self.folder.glob("best-*.safetensors"):
            if old != self._weights(self.best_epoch):
                old.unlink()
        if self.on_epoch is not None:
            said = {**row, "best": self.best}
            self.on_epoch({k: v for k, v in said.items() if v is not None})
        trainer.should_stop = trainer.should_stop or self.done

    def _weights(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch}.safetensors"

    def restore(self, module: nn.Module) -> None:
        """The best weights into ``module``, in eval mode and without frozen parts."""
        module.load_state_dict(load_file(self._weights(self.best_epoch)))
        module.eval().requires_grad_(True)
