"""Chips on their way through a network on a device of torch: sent, halved where memory ends, and fetched again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.errors import ModelError, TransientError, out_of_memory
from geoml.grid.plane import Window

T = TypeVar("T")
log = logging.getLogger(__name__)

SMALLEST = 128
"""Pixels of a chip's side that is not halved any more."""


class Batches:
    """What every back end does beside its network; ``model`` is the name of the model, for messages."""

    def __init__(self, model: str, device: torch.device, batch: int, *, fixed: bool) -> None:
        self._model, self.device, self.fixed = model, device, fixed
        self.batch, self.side, self.most = batch, 0, 0

    def upload(self, array: NDArray[np.number | np.bool_]) -> Tensor:
        """An array of the host as a tensor on the device, by a copy that is not waited for."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def download(self, strips: Iterator[tuple[T, list[Tensor]]]) -> Iterator[tuple[T, list[NDArray[np.number]]]]:
        """Tensors as numpy arrays; on CUDA copied to pinned memory while the next strip is computed."""
        pending: tuple[T, list[Tensor], torch.cuda.Event | None] | None = None
        for key, tensors in strips:
            event = None
            if tensors[0].is_cuda:
                pinned = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
                for to, value in zip(pinned, tensors, strict=True):
                    to.copy_(value, non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                tensors = pinned
            if pending is not None:
                yield _landed(*pending)
            pending = (key, tensors, event)
            if event is None:
                yield _landed(*pending)
                pending = None
        if pending is not None:
            yield _landed(*pending)

    def each(
        self, todo: Sequence[Window], work: Callable[[list[Window]], T], stride: int, *, free: bool
    ) -> Iterator[tuple[list[Window], T]]:
        """``work`` on batches of windows. What the device has no memory for is halved, and so is what comes later.

        At first the batch; then, where the size of a window is ``free``, the window, at multiples of ``stride``.
        """
        free = free and not self.fixed
        while todo:
            if free and self.side and max(todo[0].shape) > self.side:
                todo = [*todo[0].halves(stride), *todo[1:]]
                continue
            batch = next(_batches(todo, self.batch))
            size = max(batch[0].shape)
            try:
                result = work(batch)
            except (RuntimeError, MemoryError) as err:
                if not out_of_memory(err) or (len(batch) == 1 and (not free or size < max(SMALLEST, 2 * stride))):
                    raise
            else:
                yield batch, result
                todo = todo[len(batch) :]
                continue
            if len(batch) > 1:
                self.batch = len(batch) // 2
            else:
                self.side = -(-size // (2 * stride)) * stride
            chips = f"chips of {self.side or size} pixels, {self.batch} at once"
            log.warning("%s: not enough memory, continuing with %s", self._model, chips)
            if self.device.type == "cuda":  # not in the handler: it keeps the tensors of the failed try alive
                torch.cuda.empty_cache()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What the device raises inside, as TransientError without memory, and as ModelError if it fails."""
        where = f"{self._model} on {self.device}"
        try:
            yield
        except (RuntimeError, MemoryError) as err:
            why = str(err).partition("\n")[0]
            if out_of_memory(err):
                raise TransientError(
                    f"{where}: not enough memory for a single chip ({why}); free some, or set GEOML_DEVICE=cpu"
                ) from err
            if isinstance(err, torch.AcceleratorError):
                raise ModelError(f"{where}: the device failed ({why})") from err
            raise


def _batches(chips: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Neighbouring chips of one shape, at most ``size`` at once."""
    for _, group in groupby(chips, key=lambda c: c.shape):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))


def _landed(key: T, tensors: list[Tensor], event: torch.cuda.Event | None) -> tuple[T, list[NDArray[np.number]]]:
    if event is not None:
        event.synchronize()
    return key, [t.cpu().numpy() for t in tensors]
