"""Packages of models that make maps: built by their card, checked, saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from geoml import models
from geoml.engine.contract import output_of
from geoml.engine.packages import weights
from geoml.engine.packages.exported import load_exported
from geoml.engine.packages.measure import measure
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import MapCard


@dataclass(frozen=True)
class Package:
    """A loaded model: ``module`` in eval mode on the CPU, maps (B, bands, H, W) normalised float32 to logits."""

    module: nn.Module
    card: MapCard
    path: Path


def load(name_or_dir: str | Path) -> Package:
    """Read, check and build a package.

    Raises InputError for an unknown name, ModelError for a damaged package and when card and weights disagree: names,
    shapes, bands, classes, values.
    """
    card, path, content = weights.read(name_or_dir, MapCard)
    if card.architecture == "exported":
        return Package(load_exported(path, card, content), card, path.parent)
    tensors = weights.read_tensors(content, path)
    del content
    return Package(weights.fill(build(card), tensors, path), card, path.parent)


def build(card: MapCard) -> nn.Module:
    """The network of a card with fresh weights; nothing is fetched. Raises ModelError if the card does not fit it."""
    try:
        fixed = models.fixed_by_data(card.architecture, len(card.bands), card.dates, output_of(card).raw)
        for name, value in fixed.items():
            if card.config.get(name, value) != value:
                raise ModelError(f"{card.name}: config has {name} {card.config[name]}, the card lists {value}")
        config = {**card.config, **fixed}
        if "encoder_weights" in config:
            config["encoder_weights"] = None
        return models.build(card.architecture, config)
    except InputError as err:
        raise ModelError(f"{card.name}: {err}") from err


def save(module: nn.Module, card: MapCard, directory: str | Path, source: Path | None = None) -> MapCard:
    """Write a package and give the card as written: with measured stride and radius, parameters and checksum.

    ``source`` is the folder of the package that weights come from, whose licence comes along. The module comes back as
    it was (mode and device). What fails leaves nothing behind. Raises ModelError for weights
    that are not finite, DataError if the folder cannot be written.
    """
    content = weights.packed(module.state_dict(), card.name)
    was_training = module.training
    field = measure(module.eval(), len(card.bands) * card.dates, _declared_stride(module))
    module.train(was_training)
    measured = {
        "config": json.loads(json.dumps({k: v for k, v in card.config.items() if k != "encoder_weights"})),
        "stride": field.stride,
        "radius": field.radius,
        "short_radius": None,
        "weights": weights.WEIGHTS,
        "stored": "float32",
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    return weights.write(card.model_copy(update=measured), content, directory, source)


def _declared_stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", None)
    if not isinstance(stride, int) or stride < 1:
        raise InputError(f"{type(module).__name__}.stride: {stride!r}; expected a positive integer")
    return stride
