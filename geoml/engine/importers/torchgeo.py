"""A checkpoint of torchgeo's ``SemanticSegmentationTask``: of Lightning (``.ckpt``), or a bare state dict.

https://torchgeo.readthedocs.io. A ``.ckpt`` says network, backbone, bands and classes; of a state dict
``--architecture``, ``--encoder``, ``--bands`` and ``--classes`` say them. Its networks are those of
segmentation-models-pytorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geoml.engine.importers import _folders, _network, smp
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, unknown
from geoml.io.cards.map_card import MapCard

WHAT = "a checkpoint of torchgeo"
NETWORKS = {
    "unet": "Unet", "deeplabv3+": "DeepLabV3Plus", "fpn": "FPN", "upernet": "UPerNet", "segformer": "Segformer",
    "dpt": "DPT", "unet++": "UnetPlusPlus", "pspnet": "PSPNet", "linknet": "Linknet", "manet": "MAnet",
}  # fmt: skip


def convert(source: str | Path, out: str | Path, asked: ImportOptions) -> MapCard:
    """A package in ``out``; its card.

    Raises InputError for files and options that are missing, DataError for a pickle, ModelError for what does not fit.
    """
    path = Path(source)
    found = _folders.checkpoint(path, WHAT)
    said: dict[str, Any] = found.get("hyper_parameters") or {}
    name = asked.architecture or str(said.get("model", ""))
    encoder = asked.encoder or str(said.get("backbone", ""))
    channels = said.get("in_channels") or len(asked.bands)
    classes = said.get("num_classes") or len(asked.classes)
    wanted = {"--architecture": name, "--encoder": encoder, "--bands": channels, "--classes": classes}
    if missing := [option for option, value in wanted.items() if not value]:
        raise InputError(f"import: {path} does not contain everything; give {', '.join(missing)}")
    if name not in NETWORKS:
        raise unknown("architecture", name, NETWORKS)
    config = {"encoder_name": encoder, "in_channels": int(channels), "classes": int(classes)}
    network = smp.built(NETWORKS[name], config, str(path))
    prefix = "model." if any(str(k).startswith("model.") for k in found["state_dict"]) else ""
    network = _folders.filled(network, found, path, prefix)
    return _network.save(network, network, asked, smp.told_of(NETWORKS[name], config, "torchgeo"), out)
