"""The weights of a package of any kind: read once and checked against the card, and written with it. No pickle is run.

The bytes that were hashed are those that are loaded. What is loaded has the checksum of the card, every name and shape
of the network that the card describes, and finite values.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from geoml.engine.packages import cards
from geoml.errors import ModelError
from geoml.io.cards.card import ModelCard
from geoml.io.stores import store
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.signed import join_url
from geoml.nn.weights import precision
from geoml.texts import listed

C = TypeVar("C", bound=ModelCard)
M = TypeVar("M", bound=nn.Module)
Tensors = Mapping[str, Tensor]

WEIGHTS = "model.safetensors"
LICENCE = "LICENCE.md"
"""Wording of the licence of weights, which has to stay with them."""
MAX_WEIGHTS = 32 * 2**30
"""Bytes of weights that are fetched from elsewhere."""


def read(name_or_dir: str | Path, kind: type[C]) -> tuple[C, Path, bytes]:
    """Card, place and content of the weights of a package, each read once; nothing is built.

    Raises InputError for an unknown name, ModelError for a damaged card and for weights that are missing or damaged.
    """
    folder = cards.find(name_or_dir)
    card = cards.read_in(folder, kind)
    if Path(card.weights).name != card.weights:
        raise ModelError(f"{name_or_dir}: weights {card.weights!r}; expected a file beside the card")
    weights = folder / card.weights
    if is_url(name_or_dir):
        weights = fetch(join_url(str(name_or_dir), card.weights), "model", MAX_WEIGHTS)
    elif not weights.is_file():
        raise ModelError(f"{folder}: the card names {card.weights}, which does not exist")
    return card, weights, read_weights(weights, card.sha256)


def read_weights(path: Path, sha256: str) -> bytes:
    """The bytes of a weights file. Raises ModelError unless their SHA-256 is that of the card."""
    try:
        content = path.read_bytes()
    except OSError as err:
        raise ModelError(f"{path}: not readable ({err})") from err
    if (actual := hashlib.sha256(content).hexdigest()) != sha256:
        raise ModelError(f"{path}: damaged, sha256 is {actual[:12]}…, the card says {sha256[:12] or 'nothing'}…")
    return content


def read_tensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the bytes of ``path``, those in 8 bits with scales as float32.

    Raises ModelError for another format than safetensors.
    """
    if path.suffix != ".safetensors":
        raise ModelError(f"{path}: expected a .safetensors file; a pickle is never executed")
    try:
        tensors = load(content)
    except (SafetensorError, OSError, ValueError, LookupError) as err:  # also a dtype that torch lacks
        raise ModelError(f"{path}: damaged or no safetensors ({err})") from err
    return precision.unpacked(tensors, str(path))


def fill(module: M, tensors: Tensors, path: Path) -> M:
    """``module`` in eval mode, with the tensors of ``path``.

    Raises ModelError for a name that is missing or too many, another shape, and values that are not finite.
    """
    state = module.state_dict()
    missing, extra = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    shapes = [k for k in state if k in tensors and state[k].shape != tensors[k].shape]
    wrong = [f"missing {listed(missing, most=3)}"] if missing else []
    wrong += [f"unexpected {listed(extra, most=3)}"] if extra else []
    wrong += [f"{k} is {tuple(tensors[k].shape)}, expected {tuple(state[k].shape)}" for k in shapes[:3]]
    if wrong:
        raise ModelError(f"{path}: weights do not fit the architecture: " + "; ".join(wrong))
    check_finite(tensors, str(path))
    module.load_state_dict(dict(tensors))
    return module.eval()


def packed(tensors: Tensors, name: str) -> bytes:
    """Tensors as the content of a safetensors file. Raises ModelError, naming ``name``, where one is not finite."""
    check_finite(tensors, name)
    return to_bytes({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, metadata={"format": "pt"})


def write(card: C, content: bytes, directory: str | Path, source: Path | None = None) -> C:
    """Write a package, the card last, and give the card as written: with the checksum of its weights.

    The wording of the licence in ``source``, the folder of the package that the weights come from, comes along. What
    fails leaves nothing behind. Raises DataError if the folder cannot be written.
    """
    final = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    with store.folder(directory, last=cards.CARD) as folder:
        (folder / final.weights).write_bytes(content)
        if source is not None and (source / LICENCE).is_file():
            shutil.copyfile(source / LICENCE, folder / LICENCE)
        cards.write(final, folder)
    return final


def check_finite(tensors: Tensors, where: str) -> None:
    """Raise ModelError for a weight that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where}: weight {name} is not finite")
