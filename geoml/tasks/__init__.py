"""Tasks: one file each, the file name is the name; a task owns loss and metrics, and names its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from geoml.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """What the class ``Task`` of a task's file does; `docs/add-a-task.md` says it in full.

    ``output`` is the name of a file in `geoml.outputs`.
    """

    name: str
    output: str

    def __init__(
        self, classes: int, loss_parts: Mapping[str, float] = ..., class_weights: Sequence[float] | None = None
    ) -> None: ...
    def loss(self, raw: Tensor, target: Tensor) -> Tensor: ...
    def scores(self) -> Any: ...


_FILES = Registry(__name__, "task")
names, find = _FILES.names, _FILES.find
