"""Support of a score: labelled pixels and places of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Support:
    """Labelled pixels and places (connected regions, 8 neighbours, of one true class) of each class."""

    def __init__(self, classes: int) -> None:
        self.pixels: NDArray[np.int64] = np.zeros(classes, np.int64)
        self.places: NDArray[np.int64] = np.zeros(classes, np.int64)

    def update(self, target: NDArray[np.integer]) -> None:
        """Add a whole piece: (y, x) true indices, ``IGNORE`` where nothing is known."""
        from scipy import ndimage  # half a second, and only scoring needs it

        for index in range(len(self.pixels)):
            mask = np.asarray(target) == index
            self.pixels[index] += int(mask.sum())
            self.places[index] += int(ndimage.label(mask, np.ones((3, 3)))[1])

    def compute(self) -> list[dict[str, int]]:
        """``pixels`` and ``places`` of each class, in the order of the classes."""
        return [{"pixels": int(n), "places": int(m)} for n, m in zip(self.pixels, self.places, strict=True)]
