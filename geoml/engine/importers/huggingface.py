"""A folder of Hugging Face transformers with a segmentation network: SegFormer, UperNet, BEiT, DPT and others.

https://huggingface.co/docs/transformers/tasks/semantic_segmentation. Read from disk, safetensors only; code that comes
with a folder is never run. What is written needs no transformers. As its users do, logits are drawn out to the size of
the chip. The extra ``huggingface``.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.engine.importers import _folders, _network
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, MissingExtra, ModelError
from geoml.io.cards.map_card import MapCard

WHAT = "a folder of transformers (config.json, model.safetensors)"
PICTURE = 512
"""Pixels where the folder does not say the size of its pictures."""


class Whole(nn.Module):
    """(batch, band, y, x) to logits (batch, class, y, x)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(pixel_values=x, return_dict=False)[0]
        return F.interpolate(logits, size=x.shape[-2:], mode="bilinear", align_corners=False)


def recognises(source: Path) -> bool:
    """Whether a folder looks like one."""
    return source.is_dir() and _folders.is_json_with(source, "architectures", "model_type")


def convert(source: str | Path, out: str | Path, asked: ImportOptions) -> MapCard:
    """A package in ``out``; its card.

    Raises MissingExtra without transformers, InputError for files and options that are missing, ModelError for a
    network of another task or one that cannot be exported.
    """
    if find_spec("transformers") is None:
        raise MissingExtra("import: transformers is not installed; pip install 'geoml[huggingface]'")
    folder = Path(source)
    config = _folders.settings(folder / "config.json", WHAT)
    if "auto_map" in config:
        raise InputError(f"{folder}: its network is custom code (auto_map), which is never run; export it as .pt2")
    _check_whole(config, folder)
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no .safetensors; a pickle is never executed; expected {WHAT}")
    net = _loaded(folder)
    classes = [str(v).replace(",", " ") for _, v in sorted(net.config.id2label.items())]
    picture = folder / "preprocessor_config.json"
    seen = _folders.settings(picture, "settings of pictures") if picture.is_file() else {}
    told = _network.Told(
        description=f"{type(net).__name__}, imported from transformers",
        channels=_channels(config),
        outputs=len(classes),
        classes=classes,
        chip_size=asked.chip_size or _side(config, seen),
        fixed=True,
        **_scaling(seen),
        training={"imported": "transformers", "network": type(net).__name__, "preprocessor": seen},
    )
    whole = Whole(net).eval()
    return _network.save(whole, whole, asked, told, out)


def _check_whole(config: dict[str, Any], folder: Path) -> None:
    """Raise InputError for settings, nested ones too, that have transformers ask a hub for parts of the network."""
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{folder}: an adapter of another network (adapter_config.json); expected {WHAT}")
    left: list[Any] = [config]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            for key in ("backbone", "architecture"):
                if not _folders.is_plain(one.get(key)):
                    raise InputError(
                        f"{folder}: {key} {one[key]!r} lies elsewhere; expected backbone_config in its place"
                    )
            if one.get("use_pretrained_backbone"):
                why = "use_pretrained_backbone has weights fetched"
                raise InputError(f"{folder}: {why}; expected false, for the folder has them all")
        left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []


def _loaded(folder: Path) -> Any:
    from transformers import AutoModelForSemanticSegmentation
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(), _folders.offline():
            warnings.simplefilter("ignore")
            net, notes = AutoModelForSemanticSegmentation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
    except Exception as err:
        raise ModelError(f"{folder}: not a segmentation network that transformers loads ({str(err)[:200]})") from err
    if missing := sorted(notes["missing_keys"]):
        raise ModelError(f"{folder}: weights are missing: {', '.join(missing[:3])}")
    return net


def _scaling(seen: dict[str, Any]) -> dict[str, Any]:
    """How pictures of bytes are scaled, where the folder says it."""
    scale = seen.get("rescale_factor", 1 / 255) if seen.get("do_rescale", bool(seen)) else 1.0
    if not seen or not isinstance(scale, int | float) or scale <= 0:
        return {}
    if not seen.get("do_normalize", True) or not seen.get("image_mean") or not seen.get("image_std"):
        return {"scale": scale}
    return {"scale": scale, "mean": tuple(seen["image_mean"]), "std": tuple(seen["image_std"])}


def _channels(config: dict[str, Any]) -> int:
    inner = config.get("backbone_config") or {}
    return int(config.get("num_channels") or inner.get("num_channels") or 3)


def _side(config: dict[str, Any], seen: dict[str, Any]) -> int:
    """Pixels of a side of the pictures that the network takes."""
    size = seen.get("size") or config.get("image_size") or (config.get("backbone_config") or {}).get("image_size")
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return int(size) if isinstance(size, int) and 8 <= size <= _network.MOST else PICTURE
