"""Two processes train what one would have trained: real ones, with gloo between them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from geoml.backends.torch import Device
from geoml.data.chips import OwnRows
from geoml.engine.train.fit import fit
from geoml.engine.train.loop import LAST, FrozenParts, Training, TrainingBatch, TrainingState, learn
from geoml.errors import InputError, ModelError, TransientError
from geoml.nn.metrics import IGNORE

N = TypeVar("N", bound=nn.Module)
COUNT, BATCH, EPOCHS = 13, 5, 3


class Network(nn.Module):
    """(B, 2, 8, 8) to (B, 3, 8, 8); written down by the first process only."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.GELU())
        self.top = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        raw: Tensor = self.top(self.encoder(x))
        return raw

    def state_dict(self, *args: Any, **options: Any) -> Any:
        assert os.environ.get("LOCAL_RANK", "0") == "0", "only one process writes"
        return super().state_dict(*args, **options)


class Pairs(nn.Module):
    """(B, 2, 6) to (B, 2, 4) unit vectors; its loss, InfoNCE, has a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(6, 4), nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.layer(x), dim=-1)

    def loss(self, raw: Tensor, shared: Tensor) -> Tensor:
        score = (raw[:, 0] @ raw[:, 1].T * self.scale.exp()).masked_fill(shared, -torch.inf)
        return F.cross_entropy(score, torch.arange(len(score)))


def images(epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
    rng = np.random.default_rng(epoch)
    for first in range(0, COUNT, BATCH):
        x = torch.from_numpy(rng.normal(size=(min(BATCH, COUNT - first), 2, 8, 8)).astype(np.float32))
        target = (x[:, 0] > 0).long() + (x[:, 1] > 1)
        target[torch.from_numpy(rng.random(target.shape) < np.linspace(0, 0.9, len(x))[:, None, None])] = IGNORE
        yield TrainingBatch((x[rows(len(x))],), target[rows(len(x))], len(x))


def pairs(rng: np.random.Generator, epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
    for _ in range(4):
        x = torch.from_numpy(rng.normal(size=(BATCH, 2, 6)).astype(np.float32))
        shared = torch.zeros(BATCH, BATCH, dtype=torch.bool)
        shared[0, 1] = True
        yield TrainingBatch((x[rows(BATCH)],), shared[rows(BATCH)], BATCH)


class Score:
    """Cross-entropy of the pixels of two batches that are never trained."""

    key, larger_is_better = "nats", False

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        return images(99, rows)

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (raw.log_softmax(1),)

    def start(self) -> None:
        self.parts: list[Tensor] = []

    def update(self, decoded: Sequence[Tensor], target: Tensor) -> None:
        self.parts.append(F.nll_loss(decoded[0], target, ignore_index=IGNORE, reduction="none").flatten())

    def compute(self) -> float:
        return float(torch.cat(self.parts).mean())


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(raw, target, ignore_index=IGNORE)


def broken(raw: Tensor, target: Tensor) -> Tensor:
    return cross_entropy(raw, target) * torch.inf


def killed(raw: Tensor, target: Tensor) -> Tensor:
    if os.environ["LOCAL_RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return cross_entropy(raw, target)


def falling(optimiser: torch.optim.Optimizer) -> LambdaLR:
    return LambdaLR(optimiser, lambda step: 1 / (1 + step))


def training(**changes: Any) -> Training:
    net = changes.pop("net", None) or seeded(Network)
    given: dict[str, Any] = {
        "name": "made", "lower": "lr", "net": net, "batches": images, "loss": cross_entropy, "epochs": EPOCHS,
        "optimiser": partial(SGD, list(net.parameters()), 0.3, momentum=0.9), "schedule": falling, "clip": 0.5,
        "seed": 7,
    }  # fmt: skip
    return Training(**{**given, **changes})


def seeded(kind: type[N]) -> N:
    torch.manual_seed(4)
    return kind()


def pixels(**changes: Any) -> Training:
    net = seeded(Network)
    return training(net=net, frozen=FrozenParts([net.encoder], epochs=1), validation=Score(), **changes)


def contrastive() -> Training:
    net, rng = seeded(Pairs), np.random.default_rng(3)
    return training(net=net, batches=partial(pairs, rng), loss=net.loss, generators=(rng,), seed=None)


def close(one: Training, two: Training, first: TrainingState, second: TrainingState) -> None:
    for name, value in nn.Module.state_dict(one.net).items():
        torch.testing.assert_close(nn.Module.state_dict(two.net)[name], value, rtol=1e-4, atol=1e-5)
    assert second.losses == pytest.approx(first.losses, rel=1e-5)
    assert [row.keys() for row in second.history] == [row.keys() for row in first.history]
    for a, b in zip(first.history, second.history, strict=True):
        assert b == pytest.approx(a, rel=1e-5)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(machine: Any, tmp_path: Path) -> None:
    """Batches of 5, 5 and 3 images of which later rows have ever fewer labels, an encoder that is frozen at first; and
    pairs, whose loss compares every row with all others."""
    for make in (pixels, contrastive):
        machine(devices=1)
        one, two, told = make(), make(), []
        start = [p.clone() for p in one.net.parameters()]
        alone = learn(one, tmp_path / make.__name__ / "one")
        machine(devices=2)
        shared = learn(two, tmp_path / make.__name__ / "two", told.append)
        close(one, two, alone, shared)
        assert all((p - q).abs().max() > 1e-3 for p, q in zip(one.net.parameters(), start, strict=True))
        assert [row["epoch"] for row in told] == list(range(EPOCHS)), "by one process only"
        assert not two.net.training
        assert (tmp_path / make.__name__ / "two" / LAST).is_file()


@pytest.mark.slow
def test_an_error_of_a_process_is_raised_here_and_a_killed_one_leaves_the_state(machine: Any, tmp_path: Path) -> None:
    machine(devices=2)
    with pytest.raises(ModelError, match=r"made: loss is not finite .* in epoch 1; lower lr"):
        learn(training(loss=broken), tmp_path / "broken")
    machine(devices=1)
    whole, part = pixels(), pixels(epochs=1)
    alone = learn(whole, tmp_path / "whole")
    learn(part, tmp_path / "part")
    machine(devices=2)
    with pytest.raises(TransientError, match=r"SIGKILL.*resumes after its last epoch"):
        learn(pixels(loss=killed), tmp_path / "part")
    rest = pixels()
    close(whole, rest, alone, learn(rest, tmp_path / "part"))


@pytest.mark.slow
def test_a_recipe_trains_on_two_processes(machine: Any, problem: Any, tmp_path: Path) -> None:
    machine(devices=2)
    rows: list[dict[str, float]] = []
    card = fit(problem(epochs=8), tmp_path / "m", on_epoch=rows.append)
    assert [row["miou"] for row in rows] == [row["miou"] for row in card.training["history"]]
    assert card.scores["miou"] > 0.8
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.json", "model.safetensors"}


def test_more_processes_than_there_can_be_are_refused(machine: Any, tmp_path: Path) -> None:
    machine(devices=2)
    with pytest.raises(InputError, match="GEOML_DEVICES: 2; expected 1 on meta"):
        learn(training(device=Device(torch.device("meta"), bf16=False, batch=1)), tmp_path)
