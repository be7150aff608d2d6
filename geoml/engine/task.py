"""Tasks as the engine sees them: the protocol of their files, and how one is found by name in a recipe or a card.

A task's file is in ``geoml/tasks`` or ``geoml/WING/tasks`` and has a class ``Task``. `docs/add-a-task.md` describes it
in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from geoml.errors import InputError
from geoml.recipe import Frozen
from geoml.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from geoml.data.target import Labels
    from geoml.grid.plane import Window
    from geoml.io.report.score_table import ScoreTable

OnEpoch = Callable[[dict[str, float]], None]
"""Called after every epoch with ``epoch``, ``loss`` and, where there is one, the score of the validation data."""

FILES = Registry("geoml.*.tasks", "task")
DEFAULT = "segmentation"
"""The task of a recipe that names none, as old ones do."""


class Scores(Protocol):
    """An accumulator of metrics: merging parts gives the metrics of the whole."""

    def merge(self, other: Self) -> None: ...
    def compute(self) -> dict[str, Any]: ...


class MapTask(Protocol):
    """What every task declares on its class: ``card`` is the class of the card of its packages, ``input`` and
    ``output`` are the names of its plug-ins."""

    name: ClassVar[str]
    card: ClassVar[type[Frozen]]
    input: ClassVar[str]
    output: ClassVar[str]


class Task(MapTask, Protocol):
    """What a trained task declares as well: nothing needs to be constructed to train, score or print.

    ``recipe`` is the class of its recipe, ``key`` the score by which the best model is chosen.
    """

    recipe: ClassVar[type[Frozen]]
    key: ClassVar[str]
    larger_is_better: ClassVar[bool]

    @staticmethod
    def fit(recipe: Any, out: Path, on_epoch: OnEpoch | None = None) -> None:
        """Train by a recipe of the class ``recipe`` and write a package to ``out``."""
        ...

    @staticmethod
    def score(model: str | Path, recipe: Any, split: str) -> dict[str, Any]:
        """Held-out scores of a package as plain JSON values, with those of the baseline that does nothing."""
        ...

    @staticmethod
    def table(scores: Mapping[str, Any]) -> Sequence[ScoreTable | str]:
        """Scores, as returned by `score` or stored in a card, as tables and sentences in reading order."""
        ...

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Scores, as returned by `score`, as one HTML page. Raises InputError if the task has none."""
        ...


class MappedTask(Task, Protocol):
    """A task that also maps where its models are good."""

    @staticmethod
    def mapped(model: str | Path, recipe: Any, split: str, path: Path) -> dict[str, Any]:
        """Like `score`, with a map written to ``path`` if the task makes one, and named in the scores."""
        ...


def with_maps(task: type[Task]) -> type[MappedTask] | None:
    """The task if it is a `MappedTask`."""
    found: Any = task
    return found if "mapped" in dir(task) else None


def check_page(task: type[Task]) -> None:
    """Raise InputError, before anything is scored, for a task that says in ``no_page`` why its scores have none."""
    if why := getattr(task, "no_page", ""):
        raise InputError(f"report: {why}")


class BatchScores(Protocol):
    """Metrics of the validation data, batch by batch."""

    def update(self, *answer_and_truth: Any) -> None:
        """Add results of the output and the corresponding truth."""
        ...

    def compute(self) -> dict[str, Any]:
        """All scores, with the task's ``key``, None if it has no meaning, and ``pixels``: how many were scored."""
        ...


class HeldOut(Protocol):
    """Scores of whole pieces."""

    def add(self, answer: Sequence[NDArray[np.number]], truth: Labels, window: Window) -> None:
        """Count a piece: the output over all of its ``window``, and its target, cut to it."""
        ...

    def compute(self) -> dict[str, Any]:
        """Plain JSON values, with those of the baseline that does nothing."""
        ...


class PixelTask(Task, Protocol):
    """A task of the common loop, whose recipe is a `RasterRecipe`; it learns the recipe's `target`."""

    @staticmethod
    def learning(recipe: Any, train: NDArray[np.number], val: NDArray[np.number]) -> PixelTask:
        """The task of one training. ``train`` and ``val`` are what the target counted in these splits."""
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the card states about this training, in addition to what it states about all."""
        ...

    @property
    def card_fields(self) -> Mapping[str, Any]:
        """Fields of the card that only the training data determine."""
        ...

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of a batch: raw output, and targets as `Target.stacked` gives them."""
        ...

    def scores(self) -> BatchScores:
        """Empty metrics."""
        ...

    @staticmethod
    def check_fit(card: Any, recipe: Any) -> None:
        """Raise InputError, naming the field, if a card and a recipe are for different targets."""
        ...

    @staticmethod
    def held_out(card: Any, recipe: Any) -> HeldOut:
        """Empty scores of a package on a recipe that it fits."""
        ...

    @staticmethod
    def check_labels(recipe: Any, splits: Any, read: Any) -> None:
        """Warn, or raise InputError, if the network of a recipe cannot learn from the labels."""
        ...

    @staticmethod
    def judged(package: Any, recipe: Any, splits: Any, read: Any) -> Mapping[str, Any]:
        """Fields of the card measured with the trained network on the validation split, never on held-out data."""
        ...

    @staticmethod
    def more(package: Any, pieces: Any, read: Any) -> dict[str, Any]:
        """Scores that need the model itself; may replace others."""
        ...


def names() -> list[str]:
    """Every task, of the core and of the wings."""
    return FILES.names()


def find_any(name: str) -> type[MapTask]:
    """A task by name, learnt or not. Raises InputError, with the nearest name, for one that is not there."""
    task: type[MapTask] = FILES.find(name).Task
    return task


def find(name: str) -> type[Task]:
    """A task that is learnt, by name. Raises InputError, with the nearest name, for one that is not there, and for one
    that is not learnt."""
    task: type[Task] = FILES.find(name).Task
    if "fit" not in dir(task):
        raise InputError(f"task: {name} is not trained; expected one that is trained and scored")
    return task


def find_pixel_task(name: str) -> type[PixelTask]:
    """A task of the common loop by name. Raises InputError for one that is not there, or that trains by itself."""
    task: type[PixelTask] = FILES.find(name).Task
    if "loss" not in dir(task):
        raise InputError(f"task: {name} trains by itself; expected one of the common loop, with a loss")
    return task
