"""Networks whose weights are the optimum of a convex loss: found at once, without epochs, in place of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml import models
from geoml.data.chips import Reader, every
from geoml.data.recipe import Loss, RasterRecipe, TrainRecipe
from geoml.data.scene import Piece
from geoml.data.target import PixelTarget, Target
from geoml.engine.train.loop import Validation
from geoml.errors import InputError, NothingFound

MOST = 200_000
"""Labelled pixels that are solved for; of more, evenly spaced ones."""


@runtime_checkable
class Described(Protocol):
    """A network that is told how its input was standardised and at which wavelengths its bands lie, nm."""

    def describe(self, mean: Sequence[float], std: Sequence[float], wavelengths: Sequence[float | None]) -> None: ...


@runtime_checkable
class Solvable(Protocol):
    """A network whose file has ``PENALTIES``, of which validation chooses one."""

    def solve(self, pixels: Tensor, labels: Tensor, penalty: float) -> None: ...


@dataclass(frozen=True)
class Solved:
    """What came of it: a row for each penalty, and the one that was chosen; named as those of a training."""

    best_epoch: int
    best: float | None
    history: list[dict[str, Any]] = field(default_factory=list)


def penalties_of(recipe: RasterRecipe) -> tuple[float, ...]:
    """Those of the file of its model. Raises InputError for what a recipe asks of a loop that is not gone through."""
    name = recipe.model.architecture
    said = not isinstance(recipe, TrainRecipe) or recipe.loss not in (Loss(), Loss(parts="auto"))
    if said or recipe.init or recipe.freeze != "none":
        raise InputError(f"model: {name} is solved for the cross entropy of classes; expected no loss, init or freeze")
    found: tuple[float, ...] = models.find(name).PENALTIES
    return found


def solve(
    module: nn.Module,
    net: nn.Module,
    penalties: Sequence[float],
    pixels: tuple[Tensor, Tensor],
    validation: Validation,
) -> Solved:
    """Solve ``module`` for each penalty and leave the weights of the best by ``validation``, of ``net`` around it.

    Where nothing can choose (a class without a validation pixel) it is the first. The module is in eval mode then.
    """
    assert isinstance(module, Solvable)
    history: list[dict[str, Any]] = []
    states: list[dict[str, Tensor]] = []
    for number, penalty in enumerate(penalties):
        module.eval().solve(*pixels, penalty)
        states.append({name: value.clone() for name, value in module.state_dict().items()})
        history.append({"epoch": number, "penalty": penalty, validation.key: _score(net.eval(), validation)})
    sign = 1.0 if validation.larger_is_better else -1.0
    scores = [row[validation.key] for row in history]
    best = 0 if None in scores else int(np.argmax([sign * s for s in scores]))
    module.load_state_dict(states[best])
    return Solved(best, scores[best], history)


def labelled(
    pieces: Sequence[Piece], kind: Target, reader: Reader, mean: NDArray[np.float32], std: NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """(pixel, channel) float32, standardised, and (pixel,) int64 of what is labelled.

    Raises NothingFound if nothing is.
    """
    assert isinstance(kind, PixelTarget)
    images, labels = [], []
    for piece in pieces:
        sample, part = reader(piece.scene), piece.window.slices(piece.scene.window)
        target = kind.cut(sample.target, piece.window, piece.window)
        known = kind.known(target)
        images.append(sample.image[:, *part][:, known].T.astype(np.float32))
        labels.append(np.asarray(target)[known].astype(np.int64))
    x, y = np.concatenate(images), np.concatenate(labels)
    if not len(y):
        raise NothingFound("split: no labelled pixel with data in train")
    step = -(-len(y) // MOST)
    x, y = x[::step], y[::step]
    return torch.from_numpy((x - mean) / std), torch.from_numpy(y)


@torch.inference_mode()
def _score(net: nn.Module, how: Validation) -> float | None:
    how.start()
    for batch in how.batches(every):
        how.update([d.cpu() for d in how.decode(net(*batch.x), batch.x)], batch.target)
    return how.compute()
