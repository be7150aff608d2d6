"""PyTorch: where a network runs, in which precision, how it is prepared, and what happens when memory runs out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Final, final

import torch
from torch import Tensor, nn

from geoml.backends._batches import Batches
from geoml.backends._footprint import bytes_per_pixel
from geoml.errors import InputError
from geoml.io.cards.signature import Signature
from geoml.nn.context import Context, asked
from geoml.nn.fusion import fuse_batch_norms
from geoml.settings import settings

PROBE = 64
"""Pixels of a side on which the fusion of batch normalisations is tried: which feeds which hangs on no size."""
DECODERS = "segmentation_models_pytorch"
"""Whose upsampling is joined; without it a network has none, and it takes seconds to import."""
ROOM = 8e8
"""Bytes that the operators of one forward may hold at once on a CPU, where larger chips would save halo only."""


@dataclass(frozen=True, slots=True)
class Device:
    """A torch device, the precision it is good at, and how many chips it takes at once."""

    torch: torch.device
    bf16: bool
    batch: int
    int8: bool = False
    """Of back ends that run a program in it, not of PyTorch."""

    @property
    def precision(self) -> str:
        """In which a network computes, as ``run.json`` says it."""
        return "int8" if self.int8 else "bf16" if self.bf16 else "fp32"

    @property
    def joins(self) -> bool:
        """Whether upsampling joined with its convolution is faster; on GPUs and with AMX it was not measured."""
        return self.torch.type == "cpu" and not (self.bf16 and torch.cpu._is_amx_tile_supported())

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast where that pays, else nothing."""
        return torch.autocast(self.torch.type, torch.bfloat16) if self.bf16 else nullcontext()

    def for_network(self, signature: Signature) -> Device:
        """The same, in float32 where the network asks for it."""
        return replace(self, bf16=False) if signature.float32 else self

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, weights in channels_last (halves the time of bf16 convolutions)."""
        return module.to(self.torch, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def choose(name: str | None = None, precision: str | None = None, batch: int | None = None) -> Device:
    """The device by name (``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``); ``None`` asks the settings.

    Raises InputError for a device that is not there, and for int8, in which PyTorch does not compute here.
    """
    field, name = "device" if name else "GEOML_DEVICE", name or settings().device
    precision = precision or settings().precision
    if precision == "int8":
        raise InputError("GEOML_PRECISION: 'int8' is for GEOML_BACKEND=openvino or onnx; expected auto, fp32 or bf16")
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision: {precision!r}; expected auto, fp32 or bf16")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise InputError(f"{field}: {name!r}; expected auto, cpu, cuda, cuda:N or mps") from err
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{field}: {name!r} does not exist; {torch.cuda.device_count()} CUDA devices were found")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"{field}: 'mps' is not available; expected cpu or auto")
    bf16 = precision == "bf16" or (precision == "auto" and _good_at_bf16(device))
    return Device(device, bf16, batch or settings().chip_batch or (8 if device.type == "cuda" else 1))


def _good_at_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device.type == "cuda" and torch.cuda.get_device_capability() >= (8, 0)


@final
class Backend(Batches):
    """A network on a device: `geoml.engine.contract.Backend` by PyTorch.

    ``module`` is placed, its batch normalisations are fused, and with the setting ``compile`` it is compiled. One that
    gives features is only placed, in bf16 with its weights: by autocast each batch would cast them again, which costs a
    third of the pictures per second. Raises TransientError if the device has no room for it, ModelError if the
    device fails.
    """

    name: Final = "torch"
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    auto: ClassVar[tuple[str, ...]] = ()

    def __init__(self, module: nn.Module, signature: Signature, device: Device | None = None) -> None:
        self._how = (device or choose()).for_network(signature)
        fixed = settings().compile and not signature.vector
        super().__init__(signature.name, self._how.torch, self._how.batch, fixed=fixed)
        self.asks, self.precision, self._vector = asked(module), self._how.precision, signature.vector
        self._dtype = torch.bfloat16 if self._how.bf16 else torch.float32
        if signature.vector:
            with self.failures():
                self.module: Callable[..., Tensor] = self._how.place(module.eval()).to(self._dtype)
            return
        side = -(-min(signature.chip_size, PROBE) // signature.stride) * signature.stride
        probe = torch.randn(1, signature.channels, side, side, generator=torch.Generator().manual_seed(0))
        with self.failures():
            placed = self._how.place(module.eval())
            fused = fuse_batch_norms(placed, probe.to(self.device))
            if self._how.joins and DECODERS in sys.modules:
                from geoml.nn.upsampling import join_upsampling

                fused = join_upsampling(fused, probe[..., :64, :64])
            self.module = fused
            bounded = (
                getattr(module, "largest_side", None) is not None
            )  # chips as its card has them fit, others may not
            if self.device.type == "cpu" and not (self.fixed or bounded):
                held = bytes_per_pixel(self.module, probe.contiguous(memory_format=torch.channels_last))
                self.most = int(ROOM / max(1.0, held / 2 if self._how.bf16 else held))  # autocast holds weights too
        if self.fixed:
            self.module = torch.compile(self.module, dynamic=False)

    def prove(self, size: int) -> None:
        """Nothing: the others are compared with this one."""

    def forward(self, x: Tensor, context: Context = MappingProxyType({})) -> Tensor:
        """Raw output (B, K, y, x), or features (B, F) float32, of (B, channel, y, x) float32 on the device."""
        if self._vector:
            return self.module(x.to(self._dtype).contiguous(memory_format=torch.channels_last), **context).float()
        with self._how.autocast():
            return self.module(x.contiguous(memory_format=torch.channels_last), **context)
