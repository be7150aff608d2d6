"""The loop itself, on a line through made points: what is kept, what is chosen, and what is said of a broken state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR

from geoml.data.chips import OwnRows
from geoml.data.recipe import EarlyStopping
from geoml.engine.train.loop import LAST, FrozenParts, Loop, Training, TrainingBatch, kept, learn
from geoml.engine.train.team import Alone
from geoml.errors import ModelError


def points(epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
    x = torch.linspace(-1, 1, 12).reshape(-1, 1)
    for part in x.split(5):
        yield TrainingBatch((part[rows(len(part))],), 3 * part[rows(len(part))] + 1, len(part))


class Scripted:
    """A validation that gives these scores, one an epoch."""

    key = "km"

    def __init__(self, scores: list[float | None], larger: bool = False) -> None:
        self.scores, self.larger_is_better = iter(scores), larger

    def batches(self, rows: OwnRows) -> Iterator[TrainingBatch]:
        return iter(())

    def decode(self, raw: Tensor, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (raw,)

    def start(self) -> None: ...

    def update(self, decoded: Any, target: Tensor) -> None: ...

    def compute(self) -> float | None:
        return next(self.scores)


def training(epochs: int = 4, **changes: Any) -> Training:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
    given: dict[str, Any] = {
        "name": "line", "lower": "lr", "net": net, "batches": points, "loss": F.mse_loss, "epochs": epochs, "clip": 1.0,
        "optimiser": partial(AdamW, list(net.parameters()), 0.05),
        "schedule": partial(OneCycleLR, max_lr=0.05, total_steps=3 * epochs),
    }  # fmt: skip
    return Training(**{**given, **changes})


class Killed(BaseException):
    pass


def killing(after: int) -> Any:
    """Batches that die within an epoch."""

    def batches(epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
        for n, batch in enumerate(points(epoch, rows)):
            if (epoch, n) == (after, 1):
                raise Killed
            yield batch

    return batches


@pytest.mark.parametrize("scores", [(), (5.0, 4.0, 4.5, 4.2)])
@pytest.mark.parametrize(("seed", "averaging"), [(None, None), (5, None), (5, 0.9)])
def test_killed_twice_it_ends_with_the_same_weights(
    tmp_path: Path, scores: Any, seed: int | None, averaging: float | None
) -> None:
    def made(done: int = 0, **more: Any) -> Training:
        validation = Scripted(list(scores[done:])) if scores else None
        return training(seed=seed, averaging=averaging, validation=validation, **more)

    whole, rest = made(), made(2)
    told = learn(whole, tmp_path / "whole")
    for after in (1, 2):
        with pytest.raises(Killed):
            learn(made(after - 1, batches=killing(after)), tmp_path / "killed")
    again = learn(rest, tmp_path / "killed")
    assert (again.losses, again.history) == (told.losses, told.history)
    assert all(torch.equal(a, b) for a, b in zip(_values(whole), _values(rest), strict=True))


def _values(of: Training) -> list[Tensor]:
    return list(of.net.state_dict().values())


@pytest.mark.parametrize(("larger", "best", "length"), [(False, 1, 4), (True, 0, 3)])
def test_the_best_weights_by_the_direction_of_the_score(tmp_path: Path, larger: bool, best: int, length: int) -> None:
    how = training(epochs=9, validation=Scripted([5.0, 4.0, 4.1, 4.0, 3.0], larger), stopping=EarlyStopping(patience=2))
    seen = []
    found = learn(how, tmp_path, lambda row: seen.append((row, [v.clone() for v in _values(how)])))
    assert (found.best_epoch, len(found.history)) == (best, length)
    assert [row["best"] for row, _ in seen] == ([5.0] * 3 if larger else [5.0, 4.0, 4.0, 4.0])
    assert all(torch.equal(a, b) for a, b in zip(_values(how), seen[best][1], strict=True))
    assert [p.name for p in tmp_path.glob("best-*")] == [f"best-{best}.safetensors"]
    assert not how.net.training


def test_frozen_parts_stay_until_they_are_released() -> None:
    how = training(epochs=2)
    first, top = how.net[0].weight.clone(), how.net[3].weight.clone()
    seen = []
    learn(training(epochs=2, net=how.net, optimiser=how.optimiser, frozen=FrozenParts([how.net[0]], epochs=1)),
          on_epoch=lambda _: seen.append(how.net[0].weight.clone()))  # fmt: skip
    assert torch.equal(seen[0], first)
    assert not torch.equal(seen[1], first)
    assert not torch.equal(how.net[3].weight, top)
    assert how.net[0].weight.requires_grad


def test_a_state_that_is_damaged_or_of_another_network_is_never_misread(tmp_path: Path) -> None:
    learn(training(epochs=1, about={"head": "cells"}), tmp_path)
    assert kept(tmp_path) == {"head": "cells"}
    assert kept(tmp_path / "nothing") is None
    net = nn.Linear(1, 1)
    with pytest.raises(ModelError, match="another network"):
        learn(training(net=net, optimiser=partial(AdamW, net.parameters())), tmp_path)
    whole = (tmp_path / LAST).read_bytes()
    for broken in (b"", b"damaged", whole[:-900]):
        (tmp_path / LAST).write_bytes(broken)
        with pytest.raises(ModelError, match=r"damaged.*start the training over"):
            learn(training(), tmp_path)
    torch.save({"weights": torch.ones(2)}, tmp_path / LAST)
    with pytest.raises(ModelError, match="damaged"):
        kept(tmp_path)


def test_a_loss_that_is_not_finite_names_the_epoch_and_what_to_lower() -> None:
    def loss(raw: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(raw, target) * torch.nan

    with pytest.raises(ModelError, match=r"line: loss is not finite \(nan\) in epoch 1; lower lr"):
        learn(training(loss=loss))


def test_no_step_waits_for_its_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU every look at a number makes the processor wait for the step to end."""
    waits: list[str] = []
    for name in ("__float__", "__bool__", "item", "tolist"):
        real = getattr(Tensor, name)

        def look(self: Tensor, *args: Any, name: str = name, real: Any = real) -> Any:
            waits.append(name)
            return real(self, *args)

        monkeypatch.setattr(Tensor, name, look)
    net = nn.Linear(1, 1)
    done = learn(training(epochs=2, clip=0.0, net=net, optimiser=partial(SGD, list(net.parameters()), 0.01, 0.9)))
    assert len(done.losses) == 2 * 3
    assert waits == ["tolist"] * 2


def test_what_a_loss_draws_is_the_same_in_every_process_and_after_a_resume(tmp_path: Path) -> None:
    """Of a whole batch every process has to find the same loss, whatever its dropout drew before."""

    def drawn(rank: int, folder: Path | None = None, batches: Any = points) -> tuple[list[float], list[float]]:
        losses, outputs = [], []

        def loss(raw: Tensor, target: Tensor) -> Tensor:
            losses.append(float(torch.rand(())))
            outputs.append(float(raw.detach().sum()))
            return F.mse_loss(raw, target)

        made = training(seed=5, loss=loss, batches=batches)
        alone = Alone(torch.device("cpu"))
        alone.rank = rank
        Loop(made, folder, alone).run(None)
        return losses, outputs

    (first, seen), (second, other) = drawn(0), drawn(1)
    assert first == second
    assert len(set(first)) == 12, "another one in each step"
    assert seen != other, "dropout is that of the process"
    with pytest.raises(Killed):
        drawn(0, tmp_path, killing(2))
    assert drawn(0, tmp_path)[0] == first[6:]


@pytest.mark.parametrize("validated", [True, False])
def test_averaged_weights_are_those_that_are_kept(tmp_path: Path, validated: bool) -> None:
    seen: list[dict[str, Tensor]] = []

    def batches(epoch: int, rows: OwnRows) -> Iterator[TrainingBatch]:
        for batch in points(epoch, rows):
            seen.append({k: v.detach().clone() for k, v in of.net.state_dict().items()})
            yield batch

    validation = Scripted([1.0, 2.0], larger=True) if validated else None
    of = training(2, averaging=0.5, batches=batches, validation=validation)
    after = learn(of, tmp_path).training.net.state_dict()
    plain = training(2)
    learn(plain, tmp_path / "plain")
    wanted = {}
    for k, last in plain.net.state_dict().items():
        steps = [*(s[k] for s in seen[1:]), last]  # a batch is asked for before the step before it is seen
        wanted[k] = steps[0]
        for n, value in enumerate(steps[1:], 1):
            decay = min(0.5, (1 + n) / (10 + n))
            wanted[k] = decay * wanted[k] + (1 - decay) * value if value.is_floating_point() else value
    for k, value in wanted.items():
        torch.testing.assert_close(after[k], value)
    assert any(not torch.equal(after[k], v) for k, v in plain.net.state_dict().items())
