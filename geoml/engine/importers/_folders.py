"""Files of networks that are read without running anything: JSON, safetensors, and torch's files of plain tensors."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoml.engine.importers._published import tensors
from geoml.engine.packages import weights
from geoml.errors import DataError, InputError, ModelError
from geoml.io.stores import store

MAX_JSON = 4 * 2**20
CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin")


def settings(path: Path, what: str) -> dict[str, Any]:
    """A JSON object. Raises InputError if it cannot be read, ModelError if it is none."""
    try:
        value = json.loads(store.read_capped(path, MAX_JSON))
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {what}") from err
    except (ValueError, RecursionError) as err:
        raise ModelError(f"{path}: not JSON ({err}); expected {what}") from err
    if not isinstance(value, dict):
        raise ModelError(f"{path}: {type(value).__name__}; expected {what}")
    return value


def is_json_with(folder: Path, *keys: str) -> bool:
    """True for a folder whose ``config.json`` has one of the keys."""
    try:
        return bool(set(settings(folder / "config.json", "settings")) & set(keys))
    except (InputError, ModelError):
        return False


def is_plain(name: object) -> bool:
    """Whether the name of a network is one that a library has itself, no address of a hub and no path."""
    return not isinstance(name, str) or not {":", "/", "\\"} & set(name)


@contextmanager
def offline() -> Iterator[None]:
    """While libraries build a network: they ask no hub, whatever a folder's settings say."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def checkpoint(path: Path, what: str) -> dict[str, Any]:
    """The content of a ``.safetensors``, or of a file of torch that holds plain tensors, numbers and texts only.

    Raises InputError if it cannot be read or has another suffix, DataError for a file that holds anything else:
    torch refuses it before an object of it is made.
    """
    if path.suffix == ".safetensors":
        return {"state_dict": tensors(path, what)}
    if path.suffix not in CHECKPOINTS:
        raise InputError(f"{path}: expected {what}: .safetensors, or one of {', '.join(CHECKPOINTS)}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {what}") from err
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, LookupError, TypeError) as err:
        why = "it holds more than plain tensors, and a pickle is never executed; save the state dict as safetensors"
        raise DataError(f"{path}: not loaded: {why}") from err
    if not isinstance(found, dict):
        raise DataError(f"{path}: {type(found).__name__}; expected a state dict")
    return found if isinstance(found.get("state_dict"), dict) else {"state_dict": found}


def filled(network: nn.Module, found: dict[str, Any], path: Path, prefix: str = "") -> nn.Module:
    """``network`` in eval mode with the tensors of a checkpoint. Raises ModelError if they do not fit."""
    named = {str(k).removeprefix(prefix): v for k, v in found["state_dict"].items() if str(k).startswith(prefix)}
    state: dict[str, Tensor] = {k: v for k, v in named.items() if isinstance(v, Tensor)}
    return weights.fill(network, state, path)
