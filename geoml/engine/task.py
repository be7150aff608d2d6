"""Tasks as the engine knows them: the protocol of their files, and how one is found by its name in a recipe or a card.

A task's file lies in ``geoml/tasks`` or in ``geoml/WING/tasks`` and has a class ``Task``. `docs/add-a-task.md` says in
full what it holds.
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
    """An accumulator of metrics: parts that are merged give what the whole gives at once."""

    def merge(self, other: Self) -> None: ...
    def compute(self) -> dict[str, Any]: ...


class MapTask(Protocol):
    """What every task declares on its class: ``card`` is the class of the card of its packages, ``input`` and
    ``output`` are the names of what it reads and makes."""

    name: ClassVar[str]
    card: ClassVar[type[Frozen]]
    input: ClassVar[str]
    output: ClassVar[str]


class Task(MapTask, Protocol):
    """What a task that is learnt declares as well: nothing has to be built to train, score or print.

    ``recipe`` is the class of its recipe, ``key`` the score that the best is chosen by.
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
        """Held-out scores of a package as plain JSON values, beside those of doing nothing."""
        ...

    @staticmethod
    def table(scores: Mapping[str, Any]) -> Sequence[ScoreTable | str]:
        """Scores as `score` gives them, or as a card holds them, as tables and sentences in the order of reading."""
        ...

    @staticmethod
    def page(scores: Mapping[str, Any]) -> str:
        """Scores as `score` gives them as one HTML page. Raises InputError if the task has none."""
        ...


class MappedTask(Task, Protocol):
    """A task that also says where its models are good."""

    @staticmethod
    def mapped(model: str | Path, recipe: Any, split: str, path: Path) -> dict[str, Any]:
        """As `score`, which may leave out the map: written to ``path`` where there is one, and named in the scores."""
        ...


def with_maps(task: type[Task]) -> type[MappedTask] | None:
    """The task if it is a `MappedTask`."""
    found: Any = task
    return found if "mapped" in dir(task) else None


class BatchScores(Protocol):
    """Metrics of the validation data, batch by batch."""

    def update(self, *answer_and_truth: Any) -> None:
        """Add what the output answers, beside what is true."""
        ...

    def compute(self) -> dict[str, Any]:
        """All scores, with the task's ``key``, None if it has no meaning, and ``pixels``: how many were scored."""
        ...


class HeldOut(Protocol):
    """Scores of whole pieces."""

    def add(self, answer: Sequence[NDArray[np.number]], truth: Labels, window: Window) -> None:
        """Count a piece: what the output answers over all of its ``window``, and its target, cut to it."""
        ...

    def compute(self) -> dict[str, Any]:
        """Plain JSON values, beside those of doing nothing."""
        ...


class PixelTask(Task, Protocol):
    """A task of the common loop, whose recipe is a `RasterRecipe`: what is learnt is the recipe's `target`."""

    @staticmethod
    def learning(recipe: Any, train: NDArray[np.number], val: NDArray[np.number]) -> PixelTask:
        """The task of one training. ``train`` and ``val`` are what the target counted in these splits."""
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the card says of this training, beside what it says of all."""
        ...

    @property
    def card_fields(self) -> Mapping[str, Any]:
        """Fields of the card that only the training data say."""
        ...

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of a batch: raw output, and targets as `Target.stacked` gives them."""
        ...

    def scores(self) -> BatchScores:
        """Empty metrics."""
        ...

    @staticmethod
    def check_fit(card: Any, recipe: Any) -> None:
        """Raise InputError, naming the field, where a card and a recipe speak of different things to be learnt."""
        ...

    @staticmethod
    def held_out(card: Any, recipe: Any) -> HeldOut:
        """Empty scores of a package on a recipe that it fits."""
        ...

    @staticmethod
    def check_labels(recipe: Any, splits: Any, read: Any) -> None:
        """Warn, or raise InputError, where labels are none that the network of a recipe can learn."""
        ...

    @staticmethod
    def judged(package: Any, recipe: Any, splits: Any, read: Any) -> Mapping[str, Any]:
        """Fields of the card that the trained network says on the validation split; what is held out has no part."""
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
