"""Of tasks that find objects: boxes on three pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.engine.task import find
from geoml.nn.objects.centre_heat import render
from geoml.tasks._detection_scores import named
from geoml.vector.boxes import COLUMNS
from tests.contract.cases import Answers

SHAPE = (48, 64)
NAMES = ("car", "house")


def boxes(seed: int) -> NDArray[np.float64]:
    """(8, 5) index of the class, top, left, bottom, right: one in each cell of a lattice."""
    random = np.random.default_rng(seed)
    y, x = (v.ravel() * 16.0 + 2 for v in np.mgrid[:2, :4])
    height, width = random.integers(4, 13, (2, 8))
    return np.column_stack([random.integers(0, 2, 8), y, x, y + height, x + width])


def found(real: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 8) candidates at the places of boxes."""
    index, top, left, bottom, right = real.T
    half = (bottom - top) / 2, (right - left) / 2
    columns = {"y": top + half[0], "x": left + half[1], "score": score, "class": index}
    columns |= {"north": half[0], "south": half[0], "west": half[1], "east": half[1]}
    return np.column_stack([columns[name] for name in COLUMNS])


def picture(seed: int, kept: int, moved: float = 0.0) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is found of the first boxes, moved by some pixels, and the truth."""
    real = boxes(seed)
    score = np.random.default_rng(seed).integers(6, 10, kept) / 10
    shift = np.array([0, moved, moved, moved, moved])
    return found(real[:kept] + shift, score), render(real, SHAPE)


def make(name: str) -> Answers:
    task: Any = find(name)
    parts = [picture(0, 8), picture(1, 6), picture(2, 7, 3.0)]

    def shown(scores: Mapping[str, Any]) -> dict[str, Any]:
        return {"split": "test", "scenes": 3, **named(scores, NAMES)}

    return Answers(
        scores=lambda: task(len(NAMES)).scores(),
        best=1.0,
        perfect=[picture(seed, 8) for seed in range(3)],
        nothing=[picture(seed, 0) for seed in range(3)],
        parts=[parts[2], parts[0], parts[1]],
        whole=parts,
        shown=shown,
    )
