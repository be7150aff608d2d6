"""What a backbone learns from: the pictures of every epoch, the same for the same seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

    def batches(self, epoch: int, batch: int) -> Iterator[list[Pixels]]:
        """The pictures of an epoch, so many at a time."""
        rows = self.rows(epoch)
        for first in range(0, self.count, batch):
            rngs = [np.random.default_rng([self.seed, 0xB0E, epoch, i]) for i in range(first, self.count)[:batch]]
            yield self.made(rows[first : first + batch], rngs)
