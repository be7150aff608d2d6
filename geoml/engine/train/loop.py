"""The one training loop: pixels, heads, backbones and contrastive features are a `Training` each.

All randomness depends on the seed, the epoch and the place in it, or on generators whose state is kept. The state is
written after every epoch, so a training that was killed goes on to the same weights.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from geoml.backends.torch import Device
from geoml.data.chips import OwnRows
from geoml.data.recipe import EarlyStopping
from geoml.engine.train import team
from geoml.engine.train.team import OnEpoch, Team
from geoml.engine.train.transfer import freeze
from geoml.errors import InputError, ModelError
from geoml.io.stores.store import atomic

LAST = "last.ckpt"
"""In the folder of a training: all that the next epoch depends on."""

CPU = Device(torch.device("cpu"), bf16=False, batch=1)
Row = dict[str, float | None]
Tensors = tuple[Tensor, ...] | list[Tensor]


class TrainingBatch(NamedTuple):
    """What one step sees: the arguments ``x`` of the network and the ``target``, both the rows of this process.

    ``size`` counts the rows of all processes.
    """

    x: tuple[Tensor, ...]
    target: Tensor
    size: int


class Validation(Protocol):
    """How the weights of an epoch are scored; the best are kept. ``key`` is the name of the score."""

    key: str
    larger_is_better: bool

    def batches(self, rows: OwnRows) -> Iterable[TrainingBatch]: ...

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What is scored, row by row, of what the network gives for its arguments ``x``."""

    def start(self) -> None:
        """Forget the last epoch."""

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        """Count a batch, whole and on the CPU. Raises ModelError for an output that cannot be scored."""

    def compute(self) -> float | None:
        """The score; None if nothing can choose, and then the last weights are the best."""


@dataclass(frozen=True)
class FrozenParts:
    """Parts that do not learn in the first ``epochs``, or in none of them."""

    parts: Sequence[nn.Module]
    epochs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained. Everything in it can be pickled, for the other processes of a data-parallel training.

    ``net`` learns in place. ``batches(epoch, rows)`` are those of an epoch, ``loss(raw, target)`` is the scalar loss of
    a whole batch. ``optimiser()`` is called when the network is on its device, ``schedule`` is stepped with it.
    ``seed`` starts the random numbers of torch again in every epoch; None lets them go on. ``name`` and ``lower`` (the
    field of the recipe that is its learning rate) are for messages.
    """

    name: str
    lower: str
    net: nn.Module
    batches: Callable[[int, OwnRows], Iterable[TrainingBatch]]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimiser: Callable[[], Optimizer]
    schedule: Callable[[Optimizer], LRScheduler]
    epochs: int
    device: Device = CPU
    clip: float = 0.0
    seed: int | None = None
    mode: Callable[[nn.Module], object] = nn.Module.train
    """Puts the network into the mode in which it learns."""
    frozen: FrozenParts | None = None
    validation: Validation | None = None
    stopping: EarlyStopping | None = None
    generators: Sequence[np.random.Generator | torch.Generator] = ()
    """Where ``batches`` takes its random numbers from, as far as they do not start again with the epoch."""
    averaging: float | None = None
    """Decay of a moving average of the weights, which is validated and kept in their place."""
    buffers: bool = True
    """Whether buffers of the network change in training, so belong to the state."""
    about: dict[str, Any] = field(default_factory=dict)
    """Plain values that are kept with the state, see `kept`."""


@dataclass
class TrainingState:
    """What came of the epochs that are done: a row for each, and the loss of every step."""

    training: Training
    history: list[Row] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best score, by at least ``min_delta`` over the best before it; -1: none.

        An epoch without a score (also where nothing validates) cannot be chosen against, and it is the last such one.
        """
        how, stopping = self.training.validation, self.training.stopping
        delta = stopping.min_delta if stopping else 0.0
        best, top = -1, -math.inf
        for epoch, row in enumerate(self.history):
            score = row[how.key] if how else None
            if score is None or how is None:
                best = epoch
            elif (signed := score if how.larger_is_better else -score) > top + delta:
                best, top = epoch, signed
        return best

    @property
    def best(self) -> float | None:
        """The score of the weights that are kept; None if it has no meaning."""
        how = self.training.validation
        return self.history[self.best_epoch][how.key] if self.history and how else None

    @property
    def done(self) -> bool:
        count, stopping = len(self.history), self.training.stopping
        waited = count - 1 - self.best_epoch
        return count >= self.training.epochs or (stopping is not None and count > 0 and waited >= stopping.patience)


def learn(training: Training, folder: Path | None = None, on_epoch: OnEpoch | None = None) -> TrainingState:
    """Train, or go on where the state in ``folder`` ends; the network has the best weights then, on the CPU, in eval
    mode and with all its parts released.

    With `geoml.settings.Settings.devices` above one, so many processes share every batch. Without a ``folder`` nothing
    is written, one process does all and the last weights stay. ``on_epoch`` gets epoch, loss and, where something
    validates, the score and the best of them. Raises ModelError if the loss is not finite or the state is damaged,
    InputError for a batch too small for the processes, DataError if the state cannot be written, TransientError for
    a process that was killed.
    """
    loop = Loop(training, folder, team.Alone(training.device.torch))
    if folder is not None and team.processes(training.device) > 1:
        team.run(_part, (training, folder), training.device.torch, on_epoch)
    else:
        loop.run(on_epoch)
    return loop.finish()


def kept(folder: Path) -> dict[str, Any] | None:
    """``about`` of the training whose state is in ``folder``; None if there is none. Raises ModelError."""
    state = _read(folder)
    return None if state is None else dict(state["about"])


def _part(work: tuple[Training, Path], together: Team, on_epoch: OnEpoch) -> None:
    """The work of one of several processes."""
    Loop(*work, together).run(on_epoch if together.rank == 0 else None)


class Loop:
    """One process's part of a training."""

    def __init__(self, training: Training, folder: Path | None, of: Team) -> None:
        self.training, self.folder, self.team = training, folder, of
        self.progress = TrainingState(training)
        self.net: nn.Module | None = None
        self.averaged: AveragedModel | None = None
        self.optimiser: Optimizer | None = None
        self.schedule: LRScheduler | None = None

    def run(self, on_epoch: OnEpoch | None) -> None:
        """All epochs that are left."""
        how = self.training
        how.net.to(self.team.device)
        self.optimiser = how.optimiser()
        self.schedule = how.schedule(self.optimiser)
        self._resume()
        while not self.progress.done:
            epoch = len(self.progress.history)
            row: Row = {"epoch": epoch, "loss": self._epoch(epoch)}
            if how.validation is not None:
                row[how.validation.key] = self._validate(how.validation)
            self.progress.history.append(row)
            if self.folder is not None and self.team.rank == 0:
                self._keep(self.folder)
            if on_epoch is not None:
                said = row if how.validation is None else {**row, "best": self.progress.best}
                on_epoch({k: v for k, v in said.items() if v is not None})

    def finish(self) -> TrainingState:
        """The best weights in the network, from the folder where this process has not made them itself."""
        net, progress = self.training.net, self.progress
        if self.optimiser is None:
            self._resume()
        if self.folder is not None and self.training.validation is not None:
            net.load_state_dict(load_file(_best(self.folder, progress.best_epoch)))
        elif self.averaged is not None:
            net.load_state_dict(self.averaged.module.state_dict())
        net.cpu().eval().requires_grad_(True)
        return progress

    def _epoch(self, epoch: int) -> float:
        """One epoch; its mean loss. Raises ModelError if a loss is not finite."""
        how = self.training
        assert self.optimiser is not None
        assert self.schedule is not None
        if how.seed is not None:  # so dropout repeats after a resume
            torch.manual_seed(how.seed * 1_000_003 + epoch + self.team.rank * 7_368_787)
        how.mode(how.net)
        if how.frozen is not None:
            freeze(how.frozen.parts, how.frozen.epochs is None or epoch < how.frozen.epochs)
        if self.net is None or (how.frozen is not None and epoch == how.frozen.epochs):
            self.net = self.team.wrap(how.net)
        losses: list[Tensor] = []
        sizes = []
        for batch in how.batches(epoch, self.team.rows):
            if not losses and batch.size < self.team.world:
                raise InputError(f"GEOML_DEVICES: {self.team.world}; expected at most {batch.size}, which is the batch")
            raw = self.net(*(x.to(self.team.device) for x in batch.x))
            loss = self._loss(raw, batch, (epoch, len(losses)))
            losses.append(loss.detach())
            sizes.append(batch.size)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if how.clip:
                nn.utils.clip_grad_norm_([p for g in self.optimiser.param_groups for p in g["params"]], how.clip)
            self.optimiser.step()
            self.schedule.step()
            if self.averaged is not None:
                self.averaged.update_parameters(how.net)
        values: list[float] = torch.stack(losses).tolist()  # once an epoch: every look makes a GPU wait
        if strange := [v for v in values if not math.isfinite(v)]:
            raise ModelError(
                f"{how.name}: loss is not finite ({strange[0]}) in epoch {epoch + 1}; lower {how.lower} or use fp32"
            )
        self.progress.losses += values
        return float(np.mean(values) if len(set(sizes)) == 1 else np.average(values, weights=sizes))

    def _loss(self, raw: Tensor, batch: TrainingBatch, step: tuple[int, int]) -> Tensor:
        """Of the whole batch, in every process; what it draws (samples of proposals) is drawn alike by all of them."""
        how, device = self.training, self.team.device
        whole = self.team.whole(raw, batch.size), self._target(batch)
        if how.seed is None:
            return how.loss(*whole)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence([how.seed, *step]).generate_state(1)[0]))
            return how.loss(*whole)

    def _target(self, batch: TrainingBatch) -> Tensor:
        return self.team.whole(batch.target.to(self.team.device), batch.size)

    @property
    def _kept(self) -> nn.Module:
        """The network with the weights that are validated and kept."""
        return self.training.net if self.averaged is None else self.averaged.module

    @torch.inference_mode()
    def _validate(self, how: Validation) -> float | None:
        """The score over the whole validation set, the same in every process."""
        net = self._kept.eval()
        how.start()
        for batch in how.batches(self.team.rows):
            x = [part.to(self.team.device) for part in batch.x]
            decoded = how.decode(net(*x), x)
            how.update([self.team.whole(d, batch.size).cpu() for d in decoded], self._target(batch).cpu())
        return how.compute()

    def _keep(self, folder: Path) -> None:
        """Write the state. The best weights first: a kill between the two repeats the epoch."""
        how, progress = self.training, self.progress
        assert self.optimiser is not None
        assert self.schedule is not None
        best = _best(folder, progress.best_epoch)
        if how.validation is not None and progress.best_epoch == len(progress.history) - 1:
            with atomic(best) as tmp:
                save_file({k: v.detach().cpu().contiguous() for k, v in self._kept.state_dict().items()}, tmp)
        state = {
            "about": how.about,
            "net": how.net.state_dict() if how.buffers else {k: v.detach() for k, v in how.net.named_parameters()},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": progress.history,
            "losses": torch.tensor(progress.losses, dtype=torch.float64),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "random": torch.get_rng_state(),
            "generators": [
                g.get_state() if isinstance(g, torch.Generator) else dict(g.bit_generator.state) for g in how.generators
            ],
        }
        with atomic(folder / LAST) as tmp:
            torch.save(state, tmp)
        for old in folder.glob("best-*.safetensors"):
            if old != best:
                old.unlink()

    def _resume(self) -> None:
        """Take over the state, if there is one. Raises ModelError for a damaged one."""
        if self.training.averaging is not None:
            self.averaged = AveragedModel(
                self.training.net, multi_avg_fn=_moving(self.training.averaging), use_buffers=True
            )
        state = None if self.folder is None else _read(self.folder)
        if state is None:
            return
        how, progress = self.training, self.progress
        try:
            missing, strange = how.net.load_state_dict(state["net"], strict=False)
            given = () if how.buffers else (name for name, _ in how.net.named_buffers())
            if strange or set(missing).difference(given):
                raise ModelError(f"{self.folder}: the state of another network; delete it to start the training over")
            if self.optimiser is not None and self.schedule is not None:
                self.optimiser.load_state_dict(state["optimiser"])
                self.schedule.load_state_dict(state["schedule"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            progress.history, progress.losses = list(state["history"]), state["losses"].tolist()
            torch.set_rng_state(state["random"])
            for generator, value in zip(how.generators, state["generators"], strict=True):
                if isinstance(generator, torch.Generator):
                    generator.set_state(value)
                else:
                    generator.bit_generator.state = value
        except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as err:
            raise _damaged(self.folder, err) from err


def _moving(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Moves averages towards the current values, and at first further, so that the beginning is forgotten.

    Polyak and Juditsky 1992, https://doi.org/10.1137/0330046, as an exponential mean.
    """

    def move(averages: Tensors, values: Tensors, steps: Tensor | int) -> None:
        if not averages[0].is_floating_point():
            torch._foreach_copy_(averages, values)
            return
        n = int(steps)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + n) / (10 + n)))

    return move


def _best(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch}.safetensors"


def _read(folder: Path) -> dict[str, Any] | None:
    """The state in a folder; tensors and plain values, nothing of it is executed."""
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state["about"]
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, TypeError, pickle.UnpicklingError) as err:
        raise _damaged(folder, err) from err
    return state


def _damaged(folder: Path | None, err: Exception) -> ModelError:
    why = str(err).partition("\n")[0]
    return ModelError(f"{folder}/{LAST}: damaged ({why}); delete it to start the training over")
