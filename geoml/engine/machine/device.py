"""Where a model runs and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from geoml.errors import InputError
from geoml.settings import settings


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
    asked, name = "device" if name else "GEOML_DEVICE", name or settings().device
    precision = precision or settings().precision
    if precision not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision: {precision!r}; expected auto, fp32 or bf16")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as err:
        raise InputError(f"{asked}: {name!r}; expected auto, cpu, cuda, cuda:N or mps") from err
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{asked}: {name!r} is not there; {torch.cuda.device_count()} CUDA devices were found")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"{asked}: 'mps' is not there; expected cpu or auto")
    good = {"cuda": _cuda_bf16, "cpu": _cpu_bf16}.get(device.type, lambda: False)
    bf16 = precision == "bf16" or (precision == "auto" and good())
    return Device(device, bf16, batch or settings().chip_batch or (8 if device.type == "cuda" else 1))


def _cuda_bf16() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


def _cpu_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
