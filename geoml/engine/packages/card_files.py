"""The two files of a package, each read once: the bytes that were looked at, or hashed, are those that are loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from geoml.errors import ModelError

MAX_CARD = 16 * 2**20
"""Bytes; a larger card is not one."""


def read_item(path: Path) -> dict[str, Any]:
    """The STAC item in a card's file. Raises ModelError for what is none: too large, no JSON, no mapping."""
    try:
        with path.open("rb") as file:
            body = file.read(MAX_CARD + 1)
        if len(body) > MAX_CARD:
            raise ModelError(f"{path}: larger than {MAX_CARD} bytes; not a model card")
        value = json.loads(body)
    except (OSError, ValueError, RecursionError) as err:
        raise ModelError(f"{path}: not a model card ({err})") from err
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a model card ({type(value).__name__}; expected a STAC item)")
    return value


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
