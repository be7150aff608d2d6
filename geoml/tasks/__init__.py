"""Tasks: one file each, the file name is the name; a task owns loss, metrics, decoding and the kind of output."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from geoml.errors import unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Task(Protocol):
    """What the class ``Task`` of a task's file does; `docs/add-a-task.md` says it in full.

    ``layer`` is the name of the COG beside the class and ``about`` what it holds; ``background`` is the index of the
    class that is no feature, or None.
    """

    name: str
    kind: str
    layer: str
    about: str
    background: int | None

    def __init__(
        self, classes: int, loss_parts: Mapping[str, float] = ..., class_weights: Sequence[float] | None = None
    ) -> None: ...
    def loss(self, raw: Tensor, target: Tensor) -> Tensor: ...
    def decode(self, raw: Tensor) -> tuple[Tensor, Tensor]: ...
    def check(self, confidence: NDArray[np.uint8]) -> None: ...
    def scores(self) -> Any: ...


def names() -> list[str]:
    """Every task of the package, found by its file."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(task: str) -> ModuleType:
    """The file of a task; its class is ``Task``. Raises InputError, with the nearest name, for an unknown one."""
    known = names()
    if task not in known:
        raise unknown("task", task, known)
    return importlib.import_module(f"{__name__}.{task}")
