"""PyTorch: where a network runs, in which precision, how it is made ready, and what happens when memory ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Final, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.errors import InputError, ModelError, TransientError, out_of_memory
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.nn.context import Context, asked
from geoml.nn.fusion import fuse_batch_norms
from geoml.settings import settings

T = TypeVar("T")
log = logging.getLogger(__name__)

PROBE = 64
"""Pixels of a side on which the fusion of batch normalisations is tried: which feeds which hangs on no size."""

SMALLEST = 128
"""Pixels of a chip's side that is not halved any more."""


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, the precision it is good at, and how many chips it takes at once."""

    torch: torch.device
    bf16: bool
    batch: int

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast where that pays, else nothing."""
        return torch.autocast(self.torch.type, torch.bfloat16) if self.bf16 else nullcontext()

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, weights in channels_last (halves the time of bf16 convolutions)."""
        return module.to(self.torch, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def choose(name: str | None = None, precision: str | None = None, batch: int | None = None) -> Device:
    """The device by name (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``); ``None`` asks the settings.

    Raises InputError for a device that is not there.
    """
    field, name = "device" if name else "GEOML_DEVICE", name or settings().device
    precision = precision or settings().precision
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision: {precision!r}; expected auto, fp32 or bf16")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise InputError(f"{field}: {name!r}; expected auto, cpu, cuda, cuda:N or mps") from err
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{field}: {name!r} is not there; {torch.cuda.device_count()} CUDA devices were found")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"{field}: 'mps' is not there; expected cpu or auto")
    bf16 = precision == "bf16" or (precision == "auto" and _good_at_bf16(device))
    return Device(device, bf16, batch or settings().chip_batch or (8 if device.type == "cuda" else 1))


def _good_at_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0)


@final
class Backend:
    """A network on a device: `geoml.engine.contract.Backend` by PyTorch.

    ``module`` is placed, its batch normalisations are fused, and with the setting ``compile`` it is compiled. Raises
    TransientError when the device has no room for it, ModelError when the device fails.
    """

    name: Final = "torch"

    def __init__(self, module: nn.Module, card: MapCard, device: Device | None = None) -> None:
        self._card, self._how = card, device or choose()
        self.device = self._how.torch
        self.batch, self.side = self._how.batch, 0
        self.fixed, self.asks = settings().compile, asked(module)
        side = -(-min(card.chip_size, PROBE) // card.stride) * card.stride
        probe = torch.randn(1, len(card.bands) * card.dates, side, side, generator=torch.Generator().manual_seed(0))
        with self.failures():
            placed = self._how.place(module.eval())
            self.module: Callable[..., Tensor] = fuse_batch_norms(placed, probe.to(self.device))
        if self.fixed:
            self.module = torch.compile(self.module, dynamic=False)

    def upload(self, array: NDArray[np.number | np.bool_]) -> Tensor:
        """An array of the host as a tensor on the device, by a copy that is not waited for."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def forward(self, x: Tensor, context: Context = MappingProxyType({})) -> Tensor:
        """Raw output (B, K, y, x) of (B, channel, y, x) float32 on the device."""
        with self._how.autocast():
            return self.module(x.contiguous(memory_format=torch.channels_last), **context)

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
                todo = [*_halves(todo[0], stride), *todo[1:]]
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
            log.warning("%s: not enough memory, going on with %s", self._card.name, chips)
            if self.device.type == "cuda":  # not in the handler: it keeps the tensors of the failed try alive
                torch.cuda.empty_cache()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """What the device raises inside, as TransientError without memory, and as ModelError when it fails."""
        where = f"{self._card.name} on {self.device}"
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


def _halves(window: Window, stride: int) -> list[Window]:
    """Two parts of a window, cut across its longer side at a multiple of the stride."""
    height, width = window.shape
    half = max(1, max(height, width) // 2 // stride) * stride
    if height >= width:
        cut = window.y0 + half
        return [Window(window.y0, window.x0, cut, window.x1), Window(cut, window.x0, window.y1, window.x1)]
    cut = window.x0 + half
    return [Window(window.y0, window.x0, window.y1, cut), Window(window.y0, cut, window.y1, window.x1)]


def _batches(chips: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Neighbouring chips of one shape, at most ``size`` at once."""
    for _, group in groupby(chips, key=lambda c: c.shape):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))


def _landed(key: T, tensors: list[Tensor], event: torch.cuda.Event | None) -> tuple[T, list[NDArray[np.number]]]:
    if event is not None:
        event.synchronize()
    return key, [t.cpu().numpy() for t in tensors]
