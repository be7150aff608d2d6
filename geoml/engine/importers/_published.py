"""Files of published weights, read without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoml.engine.packages import weights
from geoml.errors import DataError, InputError, ModelError
from geoml.texts import listed


def inside(folder: Path, name: str) -> Path:
    """A file of the folder that is the source of an import. Raises InputError if it is not there."""
    if not (folder / name).is_file():
        raise InputError(f"source: {'' if folder == Path() else f'{folder}; '}expected the folder with {name}")
    return folder / name


def arrays(path: Path, what: str) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz``. Raises InputError if it cannot be read, DataError if damaged or pickled."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err}); expected {what}") from err
    except (ValueError, BadZipFile, AttributeError, EOFError) as err:
        raise DataError(f"{path}: damaged, or not plain arrays ({err}); a pickle is never executed") from err


def reference(path: Path, what: str, names: tuple[str, ...]) -> list[Tensor]:
    """Arrays by name of what the original was asked and answered. Raises ModelError if one is missing."""
    found = arrays(path, what)
    if missing := [n for n in names if n not in found]:
        raise ModelError(f"{path}: the reference lacks {listed(missing)}")
    return [torch.from_numpy(found[n]) for n in names]


def tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``. Raises InputError if it cannot be read, ModelError if it is damaged."""
    try:
        content = path.read_bytes()
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {what}") from err
    return weights.read_tensors(content, path)


def take(published: Mapping[str, Tensor], name: str, where: Path) -> Tensor:
    """A tensor by name. Raises ModelError for one that is missing."""
    if name not in published:
        raise ModelError(f"{where}: weight {name} is missing")
    return published[name]


def difference(found: Tensor, expected: Tensor, limit: float, what: str) -> float:
    """The largest absolute difference of an output from the original's. Raises ModelError above ``limit``."""
    if found.shape != expected.shape:
        raise ModelError(f"{what}: the output is {tuple(found.shape)}, the original's {tuple(expected.shape)}")
    off = float((found - expected).abs().max())
    if not off <= limit:
        raise ModelError(f"{what}: the output differs from the original's by {off:.2g}; expected at most {limit:g}")
    return off
