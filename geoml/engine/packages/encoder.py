"""Packages of encoders: built by their card, checked, saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from geoml import models
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.packages import weights
from geoml.errors import InputError, ModelError


@dataclass(frozen=True)
class EncoderPackage:
    """A loaded encoder: ``module`` in eval mode on the CPU, maps (B, steps * bands, H, W) normalised float32 and its
    context to (B, width, H, W), see `geoml.nn.context`."""

    module: nn.Module
    card: EncoderCard
    path: Path


def load(name_or_dir: str | Path) -> EncoderPackage:
    """Read, check and build a package.

    Raises InputError for an unknown name, ModelError for a damaged package and when card and weights disagree.
    """
    card, path, content = weights.read(name_or_dir, EncoderCard)
    return EncoderPackage(weights.fill(build(card), weights.read_tensors(content, path), path), card, path.parent)


def build(card: EncoderCard) -> nn.Module:
    """The network of a card with fresh weights. Raises ModelError if the card does not fit it."""
    try:
        module = models.encoder(card.architecture, {**card.config, "bands": len(card.bands)})
    except InputError as err:
        raise ModelError(f"{card.name}: {err}") from err
    for name in ("steps", "width", "stride"):
        if getattr(module, name) != getattr(card, name):
            raise ModelError(f"{card.name}: {name} is {getattr(module, name)}, the card says {getattr(card, name)}")
    return module


def save(module: nn.Module, card: EncoderCard, directory: str | Path) -> EncoderCard:
    """Write a package and give the card as written: with stride, parameters and checksum. What fails leaves nothing.

    Raises ModelError for weights that are not finite, DataError if the folder cannot be written.
    """
    content = weights.packed(module.state_dict(), card.name)
    about = {
        "weights": weights.WEIGHTS,
        "stored": "float32",
        "parameters": sum(p.numel() for p in module.parameters()),
        "stride": module.stride,
    }
    return weights.write(card.model_copy(update=about), content, directory)
