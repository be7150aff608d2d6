"""Transfer learning: weights of a geoml package in a network for other bands or classes; frozen encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from geoml.engine.packages import weights
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.nn.weights.transfer import copy_matching, first_convolution


def transfer(module: nn.Module, source: str, bands: Sequence[str]) -> dict[str, object]:
    """Start ``module`` from the package ``source`` (name or folder); what was taken, for the new card.

    Every tensor whose name and shape fit is copied. Filters of the first convolution go by band name: a band that the
    package knows gets its own filters, another one the mean of all; where all dates go into one convolution, every
    date gets them. A head for other classes starts afresh. Raises InputError if nothing fits, ModelError for damaged
    weights.
    """
    card, path, content = weights.read(source, MapCard)
    if path.suffix != ".safetensors":
        raise InputError(f"init: {source} is an exported program; expected a package with .safetensors weights")
    tensors = weights.read_tensors(content, path)
    copied = take(module, tensors, [b.name for b in card.bands], bands)
    if not copied:
        raise InputError(f"init: no tensor of {path} fits this architecture")
    total = sum(t.numel() for t in module.state_dict().values())
    taken = sum(module.state_dict()[name].numel() for name in copied)
    return {"package": card.name, "sha256": card.sha256, "share": round(taken / total, 4), "tensors": len(copied)}


def take(module: nn.Module, tensors: Mapping[str, Tensor], known: Sequence[str], bands: Sequence[str]) -> list[str]:
    """Copy what fits of the tensors of a network of the bands ``known``, see `transfer`; the names that were copied."""
    copied = copy_matching(module, tensors)
    first = first_convolution(module)
    bands = tuple(bands) * max(1, len(module.state_dict()[first][0]) // len(bands))
    if copied and tuple(known) != bands and any(b in known for b in bands):
        _by_name(module, first, tensors, known, bands)
        copied = sorted({*copied, first})
    return copied


def _by_name(
    module: nn.Module, first: str, tensors: Mapping[str, Tensor], known: Sequence[str], bands: Sequence[str]
) -> None:
    """Filters of the first convolution by band name, scaled so that the response keeps its size."""
    given = tensors.get(first)
    target = module.state_dict()[first]
    if given is None or given.shape[1] != len(known) or given.shape[0] != target.shape[0]:
        return
    mean = given.mean(1)
    chosen = [given[:, known.index(b)] if b in known else mean for b in bands]
    with torch.no_grad():
        target.copy_(torch.stack(chosen, 1) * (len(known) / len(bands)))


def encoder_parts(module: nn.Module) -> list[nn.Module]:
    """Submodules called ``encoder``. Raises InputError if there is none, so that nothing is frozen by mistake."""
    parts = [part for name, part in module.named_modules() if name.split(".")[-1] == "encoder"]
    if not parts:
        raise InputError(f"freeze: {type(module).__name__} has no part called encoder")
    return parts


def freeze(parts: Sequence[nn.Module], frozen: bool) -> None:
    """Freeze or release parts: no gradient, and running statistics of batch norm stay as they are."""
    for part in parts:
        part.requires_grad_(not frozen)
        part.train(not frozen)
