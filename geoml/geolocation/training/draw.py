"""What is learnt from: the pictures or the features of every epoch, the same for the same seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.data.chips import OwnRows, every
from geoml.engine.train.loop import TrainingBatch

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Draw(ABC):
    """``count`` pictures of side ``size`` in an epoch, of places ``where`` (N, 2), each as often as its ``weight``."""

    where: NDArray[np.float64]
    weight: NDArray[np.float64]
    count: int
    size: int
    seed: int

    @abstractmethod
    def made(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator]) -> list[Pixels]:
        """A (size, size, 3) uint8 picture of each of some places, each with random numbers of its own."""

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """(count,) which place each picture of an epoch shows."""
        draw = np.random.default_rng([self.seed, 0x7EA, epoch])
        return draw.choice(len(self.where), self.count, p=self.weight)

    def batches(self, epoch: int, batch: int, part: OwnRows = every) -> Iterator[list[Pixels]]:
        """The pictures of an epoch, so many at a time, or of each batch a part."""
        rows = self.rows(epoch)
        for first in range(0, self.count, batch):
            numbers = range(first, min(first + batch, self.count))
            numbers = numbers[part(len(numbers))]
            rngs = [np.random.default_rng([self.seed, 0xB0E, epoch, i]) for i in numbers]
            yield self.made(rows[numbers.start : numbers.stop], rngs)


@dataclass(frozen=True)
class FeatureBatches:
    """Batches of features ``x`` (N, F) and their ``target``: N rows in an epoch, each drawn by its ``weight``."""

    x: Tensor
    target: Tensor
    weight: NDArray[np.float64]
    batch: int
    draw: np.random.Generator

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch)

    def __call__(self, epoch: int, part: OwnRows) -> Iterator[TrainingBatch]:
        order = torch.from_numpy(self.draw.choice(len(self.x), len(self.x), p=self.weight))
        for rows in order.split(self.batch):  # type: ignore[no-untyped-call]
            own = rows[part(len(rows))]
            yield TrainingBatch((self.x[own],), self.target[own], len(rows))
