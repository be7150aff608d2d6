"""Answers of known worth for every task: right ones, those of doing nothing, and some in between.

A file of `tests/contract/answers` is of all tasks whose output has its name, or of the one task that has it, and holds
``make(task)``. One of the common loop over pixels has ``case(task)`` as well. Both are found by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from geoml.engine import task as tasks
from geoml.engine.contract import pixel_output
from geoml.engine.inference.predict import stored
from geoml.engine.task import Scores
from geoml.io.cards.map_card import MapCard

Parts = Sequence[tuple[Any, ...]]
"""Of answers and truth, each what ``update`` of the task's scores takes."""


@dataclass(frozen=True)
class Answers:
    """``best`` is the key of perfect answers; ``whole`` are those of ``parts`` at once; ``shown`` is what `score` says
    of computed scores, as far as the task's table needs it."""

    scores: Callable[[], Scores]
    best: float
    perfect: Parts
    nothing: Parts
    parts: Parts
    whole: Parts
    shown: Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class PixelCase:
    """A task of pixels with (3, K, 16, 12) ``raw`` output and a ``target``, which have nothing to do with each other.

    ``right`` is raw output that is sure of a target, ``unknown`` the target of a pixel without a label.
    """

    task: Any
    card: MapCard
    raw: Tensor
    target: Tensor
    right: Callable[[Tensor], Tensor]
    unknown: float

    def decoded(self, raw: Tensor, target: Tensor) -> tuple[Any, ...]:
        """What the output that the task names makes of raw output, as scores take it, and the truth: (B, y, x)."""
        output = pixel_output(self.card)
        found = output.answer(stored(output, raw, np.ones(target.shape, np.bool_)))
        return *(a.reshape(target.shape) for a in found), target.numpy()


def of(task: str) -> ModuleType:
    """The file of a task."""
    output = tasks.find_any(task).output
    name = output if (Path(__file__).parent / "answers" / f"{output}.py").exists() else task
    return importlib.import_module(f"tests.contract.answers.{name}")
