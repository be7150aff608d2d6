"""Model packages: a folder with weights and a model card (a STAC item with the MLM extension). No pickle is ever run.

The card is written last, so a folder with ``model.json`` is whole. Weights are checked against the card when they are
loaded: sha256, every name and shape, finite values, bands and classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from geoml import models
from geoml.engine.contract import output_of
from geoml.engine.packages.card_files import MAX_CARD, read_item, read_tensors, read_weights
from geoml.engine.packages.exported import load_exported
from geoml.engine.packages.measure import measure
from geoml.errors import InputError, ModelError, unknown
from geoml.io.cards import mlm
from geoml.io.cards.card import ModelCard
from geoml.io.stores import store
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.signed import beside
from geoml.settings import settings

CARD = "model.json"
WEIGHTS = "model.safetensors"
MAX_WEIGHTS = 32 * 2**30
"""Bytes of weights that are fetched from elsewhere."""


@dataclass(frozen=True)
class Package:
    """A loaded model: ``module`` in eval mode on the CPU, maps (B, bands, H, W) normalised float32 to logits."""

    module: nn.Module
    card: ModelCard
    path: Path


def names() -> list[str]:
    """Packages in the ``models`` folder of the catalogs."""
    folder = settings().catalogs / "models"
    return sorted(p.parent.name for p in folder.glob(f"*/{CARD}"))


def find(name_or_dir: str | Path) -> Path:
    """The folder of a package, by name, path or URL; of one elsewhere a copy, whose card alone is fetched yet.

    Raises InputError with the nearest name for an unknown one, ModelError for a file of weights without a card.
    """
    if is_url(name_or_dir):
        return fetch(beside(str(name_or_dir), CARD), "model", MAX_CARD).parent
    path = Path(name_or_dir)
    if (path / CARD).is_file():
        return path
    if path.is_file():
        raise ModelError(f"model: {path} is a file; expected a folder with {CARD} (a pickle is never executed)")
    if path.is_dir():
        raise InputError(f"model: {path} has no {CARD}; expected a model package")
    if str(name_or_dir) not in names():
        raise unknown("model", str(name_or_dir), names())
    return settings().catalogs / "models" / str(name_or_dir)


def read_card(name_or_dir: str | Path) -> ModelCard:
    """The card of a package; the weights are not touched. Raises as `find`, and ModelError for a damaged card."""
    return _card(find(name_or_dir))


def read(name_or_dir: str | Path) -> tuple[ModelCard, Path, bytes]:
    """Card, place and content of the weights of a package, each read once. Raises as `load`, but builds nothing."""
    folder = find(name_or_dir)
    card = _card(folder)
    weights = _weights(name_or_dir, folder, card)
    return card, weights, read_weights(weights, card.sha256)


def load(name_or_dir: str | Path) -> Package:
    """Read, check and build a package.

    Raises as `find`, and ModelError when card and weights disagree: checksum, names, shapes, bands, classes, values.
    """
    card, weights, content = read(name_or_dir)
    if card.architecture == "exported":
        return Package(load_exported(weights, card, content), card, weights.parent)
    tensors = read_tensors(content, weights)
    del content
    module = build(card)
    _fill(module, tensors, weights)
    return Package(module.eval(), card, weights.parent)


def build(card: ModelCard) -> nn.Module:
    """The network of a card with fresh weights; nothing is fetched. Raises ModelError when the card does not fit it."""
    try:
        fixed = models.given(card.architecture, len(card.bands), card.dates, output_of(card).raw)
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
    _check_finite(tensors, card.name)
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


def _card(folder: Path) -> ModelCard:
    return mlm.from_item(read_item(folder / CARD), str(folder / CARD))


def _weights(name_or_dir: str | Path, folder: Path, card: ModelCard) -> Path:
    if Path(card.weights).name != card.weights:
        raise ModelError(f"{name_or_dir}: weights {card.weights!r}; expected a file beside the card")
    if is_url(name_or_dir):
        return fetch(beside(str(name_or_dir), card.weights), "model", MAX_WEIGHTS)
    weights = folder / card.weights
    if not weights.is_file():
        raise ModelError(f"{folder}: the card names {card.weights}, which is not there")
    return weights


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    wanted = module.state_dict()
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shapes = [k for k in wanted if k in tensors and wanted[k].shape != tensors[k].shape]
    wrong = [f"missing {_some(missing)}"] if missing else []
    wrong += [f"unexpected {_some(extra)}"] if extra else []
    wrong += [f"{k} is {tuple(tensors[k].shape)}, expected {tuple(wanted[k].shape)}" for k in shapes[:3]]
    if wrong:
        raise ModelError(f"{where}: weights do not fit the architecture: " + "; ".join(wrong))
    _check_finite(tensors, str(where))
    module.load_state_dict(dict(tensors))


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{where}: weight {name} is not finite")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
