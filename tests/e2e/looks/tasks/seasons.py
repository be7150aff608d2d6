"""Segmentation of a series."""

from __future__ import annotations

from typing import ClassVar

from geoml.nn.metrics import ClassScores
from geoml.recipe import Frozen
from geoml.tasks import segmentation


class Task:
    """As `geoml.tasks.segmentation` in all but what it reads."""

    name: ClassVar = "seasons"
    recipe: ClassVar[type[Frozen]] = segmentation.Task.recipe
    card: ClassVar[type[Frozen]] = segmentation.Task.card
    input: ClassVar = "series"
    output: ClassVar = "classes"
    key: ClassVar = ClassScores.key
    larger_is_better: ClassVar = ClassScores.larger_is_better

    fit = staticmethod(segmentation.Task.fit)
    score = staticmethod(segmentation.Task.score)
    table = staticmethod(segmentation.Task.table)
    page = staticmethod(segmentation.Task.page)
