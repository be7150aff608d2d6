"""Networks that measure how similar pixels are, for stereo: from safetensors, or from the weights of ``mccnn``."""

from __future__ import annotations

import hashlib
import io
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch

from geoml.engine.packages import weights
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.models.siamese_matching import Config, SiameseMatching, of_mccnn

CENSUS: Final = "census"
MCCNN: Final = "mccnn"
FILE: Final = "mc_cnn_fast_mb_weights.pt"
"""Of the weights that ``mccnn`` brings those that measured best on made pairs."""
MOST: Final = 2**26
"""Bytes of weights."""


def file_of(name: str) -> Path | None:
    """The file of a way to match; None for the census. Raises InputError if there is none, MissingExtra."""
    if name == CENSUS:
        return None
    if name == MCCNN:
        found = find_spec("mc_cnn")
        if found is None or found.origin is None:
            raise MissingExtra("the weights of mccnn are not installed: pip install --no-deps mccnn==1.4.1")
        return Path(found.origin).parent / "weights" / FILE
    path = Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"matching: {name!r} is not a file; expected {CENSUS}, {MCCNN} or a .safetensors")
    return path.resolve()


def sha256_of(path: Path) -> str:
    """Of the content of a file of weights. Raises InputError if it cannot be read."""
    return hashlib.sha256(_content(path)).hexdigest()


def load(path: Path, sha256: str) -> SiameseMatching:
    """The network of a file. Raises ModelError for a file of another sum or with other weights."""
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path}: not the weights that the run was planned with")
    if path.suffix == ".pt":
        try:
            return of_mccnn(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as err:
            raise ModelError(f"{path}: not the weights of mccnn ({str(err)[:200]})") from err
    tensors = weights.read_tensors(content, path)
    kernels = [t for t in tensors.values() if t.ndim == 4]
    if not kernels or any(t.shape[2:] != (3, 3) for t in kernels):
        raise ModelError(f"{path}: not a network that matches pixels; expected convolutions of 3 x 3")
    network = SiameseMatching(Config(layers=len(kernels), width=int(kernels[0].shape[0])))
    return weights.fill(network, tensors, path)


def save(network: SiameseMatching, path: Path) -> None:
    """Write the weights. Raises ModelError if one is not finite."""
    path.write_bytes(weights.packed(network.state_dict(), path.name))


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST:
            raise ModelError(f"{path}: {path.stat().st_size} bytes; at most {MOST}")
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"matching: {path} cannot be read ({err.strerror})") from err
