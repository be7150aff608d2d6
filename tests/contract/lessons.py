"""What a model is taught in the tests, by its task: classes of pixels, or what a file ``lessons_TASK.py`` here says."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from geoml.engine import task as tasks

Loss = Callable[[Tensor, Tensor], Tensor]


class Lesson(Protocol):
    """``classes`` of a card are ``channels(classes)`` of raw output; ``rate`` is that of learning."""

    rate: float

    def channels(self, classes: int) -> int: ...

    def loss(self, classes: int) -> Loss: ...

    def target(self, batch: int, height: int, width: int, classes: int) -> Tensor:
        """Truth that has nothing to do with any image."""
        ...

    def by_heart(self, x: Tensor) -> Tensor:
        """Truth of two classes, of which the images x (B, bands, H, W) are made to show something."""
        ...

    def learnt(self, raw: Tensor, target: Tensor) -> float:
        """1 where all of it is learnt."""
        ...


class ClassLesson:
    """Classes of pixels."""

    rate = 1e-2

    def __init__(self, task: str) -> None:
        self.task = task

    def channels(self, classes: int) -> int:
        return classes

    def loss(self, classes: int) -> Loss:
        return tasks.find_pixel_task(self.task)(classes).loss  # type: ignore[call-arg]

    def target(self, batch: int, height: int, width: int, classes: int) -> Tensor:
        return torch.randint(0, classes, (batch, height, width), generator=torch.Generator().manual_seed(2))

    def by_heart(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        target = torch.zeros(len(x), height, width, dtype=torch.int64)
        target[0, :, width // 2 :] = 1
        target[1, : height // 2] = 1
        x[:, 0] += 3 * (target * 2 - 1)
        return target

    def learnt(self, raw: Tensor, target: Tensor) -> float:
        """Share of right pixels."""
        return float((raw.argmax(1) == target).float().mean())


def lesson_of(task: str) -> Lesson:
    """That of a task."""
    name = f"tests.contract.lessons_{task}"
    if find_spec(name) is None:
        return ClassLesson(task)
    found: Lesson = import_module(name).LESSON
    return found
