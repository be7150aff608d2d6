"""A folder written by ``save_pretrained`` of segmentation-models-pytorch: ``config.json`` and safetensors.

https://smp.readthedocs.io/en/latest/save_load.html. The folder says the network, its encoder, and the numbers
of bands and classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from geoml.engine.importers import _folders, _network
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, ModelError, unknown
from geoml.io.cards.map_card import MapCard

WHAT = "a folder of segmentation-models-pytorch (config.json, model.safetensors)"
FETCHING = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
"""Settings of timm that have it look for weights elsewhere."""
DEEPEST = 5
"""Halvings of most encoders; a network that takes other sizes is exported for chips of one."""


def recognises(source: Path) -> bool:
    """Whether a folder looks like one."""
    return source.is_dir() and _folders.is_json_with(source, "_model_class")


def convert(source: str | Path, out: str | Path, asked: ImportOptions) -> MapCard:
    """A package in ``out``; its card.

    Raises InputError for files and options that are missing, ModelError for what does not fit or differs.
    """
    folder = Path(source)
    config = _folders.settings(folder / "config.json", WHAT)
    if not (folder / "model.safetensors").is_file():
        raise InputError(f"{folder}: model.safetensors is missing; expected {WHAT}")
    name = str(config.pop("_model_class", ""))
    if config.get("activation") not in (None, "identity"):
        raise InputError(
            f"{folder}: activation {config['activation']!r}; expected a network of logits (activation: null)"
        )
    network = built(name, config, str(folder / "config.json"))
    network = _folders.filled(network, _folders.checkpoint(folder / "model.safetensors", WHAT), folder)
    told = told_of(name, config, "segmentation-models-pytorch")
    return _network.save(network, network, asked, told, out)


def built(name: str, config: Mapping[str, Any], where: str) -> nn.Module:
    """A network by its class, with weights by chance. Raises InputError for an unknown one and for settings that name
    weights elsewhere, ModelError for settings that it does not take; nothing is downloaded."""
    import segmentation_models_pytorch as published

    known = {c.__name__: c for c in (*published.MODEL_ARCHITECTURES_MAPPING.values(),)}
    if name not in known:
        raise unknown("network of segmentation-models-pytorch", name, known)
    if not _folders.is_plain(config.get("encoder_name")):
        raise InputError(f"{where}: encoder {config['encoder_name']!r}; expected the name of one that smp has itself")
    if elsewhere := [key for key in FETCHING if config.get(key)]:
        raise InputError(f"{where}: {elsewhere[0]} names weights elsewhere; expected none, for the folder has them all")
    own = {k: v for k, v in config.items() if k not in ("encoder_weights", "aux_params", "_hub_mixin_config")}
    try:
        with _folders.offline():
            network: nn.Module = known[name](**own, encoder_weights=None)
    except Exception as err:
        raise ModelError(f"{where}: {name} cannot be built of it ({str(err)[:200]})") from err
    return network


def told_of(name: str, config: Mapping[str, Any], by: str) -> _network.Told:
    """What the settings say."""
    return _network.Told(
        description=f"{name} of {config.get('encoder_name', 'its default encoder')}, imported from {by}",
        channels=int(config.get("in_channels", 3)),
        outputs=int(config.get("classes", 1)),
        stride=2 ** int(config.get("encoder_depth") or DEEPEST),
        training={"imported": by, "network": name, "encoder": str(config.get("encoder_name", ""))},
    )
