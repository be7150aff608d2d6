"""Tensors in fewer bytes on disk: matrices in half precision, or in 8 bits with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geoml.errors import ModelError

SCALE = ".scale"
"""After the name of a matrix in 8 bits: what its rows are multiplied by."""
ROW = 32
"""Values for which a scale of their own pays where weights are kept in 8 bits; depthwise convolutions have fewer."""


def stored(state: Mapping[str, Tensor], half: bool, int8: bool, packed: str | None = None) -> dict[str, Tensor]:
    """The tensors of a module as they are written: with ``half`` matrices in float16, with ``int8`` too those named
    ``…weight`` in 8 bits where a row has at least `ROW` values, and with ``half`` all whose name ends in ``packed``."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        small = half and tensor.dtype == torch.float32 and tensor.ndim > 1
        wide = int8 and name.endswith("weight") and tensor.ndim > 1 and tensor[0].numel() >= ROW
        if small and (wide or (packed is not None and name.endswith(packed))):
            out[name], out[name + SCALE] = _packed(tensor)
        else:
            out[name] = tensor.to(torch.float16) if small else tensor
    return out


def unpacked(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """What `stored` wrote, matrices of 8 bits as float32; those of half precision become floats in the module.

    Raises ModelError, naming ``where``, for scales that are not one for each row.
    """
    out = dict(tensors)
    for name, rows in tensors.items():
        if rows.dtype == torch.int8 and name + SCALE in tensors:
            scale = out.pop(name + SCALE)
            if scale.shape != (*rows.shape[:1], *[1] * (rows.ndim - 1)):
                raise ModelError(f"{where}: {name}{SCALE} is {tuple(scale.shape)}; expected a number for each row")
            out[name] = rows.float() * scale
    return out


def _packed(rows: Tensor) -> tuple[Tensor, Tensor]:
    scale = rows.abs().amax(tuple(range(1, rows.ndim)), keepdim=True).clamp_min(1e-12) / 127.0
    return (rows / scale).round().to(torch.int8), scale
