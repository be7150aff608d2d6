"""Tasks: one file each, the file name is the name; a task owns loss, metrics, decoding and the kind of output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from geoml.registry import Registry

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


_FILES = Registry(__name__, "task")
names, find = _FILES.names, _FILES.find
