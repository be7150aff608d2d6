"""The weights of a package, read once: the bytes that were hashed are those that are loaded. No pickle is ever run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from geoml.errors import ModelError

WEIGHTS = "model.safetensors"
MAX_WEIGHTS = 32 * 2**30
"""Bytes of weights that are fetched from elsewhere."""


def read_weights(path: Path, sha256: str) -> bytes:
    """The bytes of a weights file. Raises ModelError unless their SHA-256 is that of the card."""
    try:
        content = path.read_bytes()
    except OSError as err:
        raise ModelError(f"{path}: not readable ({err})") from err
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ModelError(f"{path}: damaged, sha256 is {found[:12]}…, the card says {sha256[:12] or 'nothing'}…")
    return content


def read_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of ``path``. Raises ModelError for what is no safetensors file."""
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: expected a .safetensors file; a pickle is never executed")
    try:
        return load(content)
    except (SafetensorError, OSError, ValueError, LookupError) as err:  # also a dtype that torch lacks
        raise ModelError(f"{path}: damaged or no safetensors ({err})") from err


def fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Load tensors into a network. Raises ModelError unless names and shapes are its own and all values finite."""
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shapes = [k for k in wanted if k in tensors and wanted[k].shape != tensors[k].shape]
    wrong = [f"missing {_some(missing)}"] if missing else []
    wrong += [f"unexpected {_some(extra)}"] if extra else []
    wrong += [f"{k} is {tuple(tensors[k].shape)}, expected {tuple(wanted[k].shape)}" for k in shapes[:3]]
    if wrong:
        raise ModelError(f"{where}: weights do not fit the architecture: " + "; ".join(wrong))
    check_finite(tensors, str(where))
    module.load_state_dict(dict(tensors))


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise ModelError, naming the tensor, for a value that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where}: weight {name} is not finite")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
