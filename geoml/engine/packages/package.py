"""Model packages: a folder with weights and a model card (a STAC item with the MLM extension). No pickle is ever run.

The card is written last, so a folder with ``model.json`` is whole. Weights are checked against the card when they are
loaded: sha256, every name and shape, finite values, bands and classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save as to_bytes
from torch import nn

from geoml import models
from geoml.engine.packages.cards import read_card
from geoml.engine.packages.exported import load_exported
from geoml.engine.packages.folder import CARD, find
from geoml.engine.packages.measure import measure
from geoml.engine.packages.weights import MAX_WEIGHTS, WEIGHTS, check_finite, fill, read_tensors, read_weights
from geoml.errors import InputError, ModelError
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.io.stores import store
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.signed import beside


@dataclass(frozen=True)
class Package:
    """A loaded model: ``module`` in eval mode on the CPU, maps (B, bands, H, W) normalised float32 to logits."""

    module: nn.Module
    card: ModelCard
    path: Path


def read(name_or_dir: str | Path) -> tuple[ModelCard, Path, bytes]:
    """Card, place and content of the weights of a package, each read once. Raises as `load`, but builds nothing."""
    folder = find(name_or_dir)
    card = read_card(folder)
    weights = _weights(name_or_dir, folder, card)
    return card, weights, read_weights(weights, card.sha256)


def load(name_or_dir: str | Path) -> Package:
    """Read, check and build a package.

    Raises as `geoml.engine.packages.folder.find`, and ModelError when card and weights disagree: checksum, names,
    shapes, bands, classes, values.
    """
    card, weights, content = read(name_or_dir)
    if card.architecture == "exported":
        return Package(load_exported(weights, card, content), card, weights.parent)
    tensors = read_tensors(content, weights)
    del content
    module = build(card)
    fill(module, tensors, weights)
    return Package(module.eval(), card, weights.parent)


def build(card: ModelCard) -> nn.Module:
    """The network of a card with fresh weights; nothing is fetched. Raises ModelError when the card does not fit it."""
    try:
        fixed = models.given(card.architecture, len(card.bands), card.dates, len(card.classes))
        for name, value in fixed.items():
            if card.config.get(name, value) != value:
                raise ModelError(f"{card.name}: config has {name} {card.config[name]}, the card lists {value}")
        config = {**card.config, **fixed}
        if "encoder_weights" in config:
            config["encoder_weights"] = None
        return models.build(card.architecture, config)
    except InputError as err:
        raise ModelError(f"{card.name}: {err}") from err


def save(module: nn.Module, card: ModelCard, directory: str | Path) -> ModelCard:
    """Write a package and give the card as written: with measured stride and radius, parameters and checksum.

    The module comes back as it was (mode and device). What fails leaves nothing behind. Raises ModelError for weights
    that are not finite, DataError when the folder cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    check_finite(tensors, card.name)
    was_training = module.training
    sight = measure(module.eval(), len(card.bands) * card.dates, _declared_stride(module))
    module.train(was_training)
    with store.folder(directory, last=CARD) as folder:
        (folder / WEIGHTS).write_bytes(to_bytes(tensors, metadata={"format": "pt"}))
        final = card.model_copy(
            update={
                "config": json.loads(json.dumps({k: v for k, v in card.config.items() if k != "encoder_weights"})),
                "stride": sight.stride,
                "radius": sight.radius,
                "weights": WEIGHTS,
                "sha256": store.sha256(folder / WEIGHTS),
                "parameters": sum(p.numel() for p in module.parameters()),
            }
        )
        write_card(final, folder)
    return final


def write_card(card: ModelCard, directory: str | Path) -> None:
    """Write the card of a package whose weights are in place (also to add scores later). Raises DataError."""
    directory = Path(directory)
    item = mlm.to_item(card, (directory / card.weights).stat().st_size)
    store.write_json(directory / CARD, item.to_dict(include_self_link=False, transform_hrefs=False))


def _declared_stride(module: nn.Module) -> int:
    stride = getattr(module, "stride", None)
    if not isinstance(stride, int) or stride < 1:
        raise InputError(f"{type(module).__name__}.stride: {stride!r}; expected a positive integer")
    return stride


def _weights(name_or_dir: str | Path, folder: Path, card: ModelCard) -> Path:
    if Path(card.weights).name != card.weights:
        raise ModelError(f"{name_or_dir}: weights {card.weights!r}; expected a file beside the card")
    if is_url(name_or_dir):
        return fetch(beside(str(name_or_dir), card.weights), "model", MAX_WEIGHTS)
    weights = folder / card.weights
    if not weights.is_file():
        raise ModelError(f"{folder}: the card names {card.weights}, which is not there")
    return weights
