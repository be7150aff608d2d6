"""The published encoder of Galileo (nano), for Sentinel-2 at the top of the atmosphere in patches of one pixel.

``source`` holds ``encoder.safetensors``, the published state by name, ``normalization.json`` (mean and standard
deviation of each channel), ``config.json``, and ``reference.npz``: values, months and the original's tokens.
Its other tokens (Sentinel-1, what varies in space or time alone, places) are left out, because the reference says
nothing of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geoml import models
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.importers import _sentinel2
from geoml.engine.importers._published import difference, inside, reference, take, tensors
from geoml.engine.packages import encoder, weights
from geoml.errors import InputError, ModelError
from geoml.models.galileo import GalileoEncoder

TOLERANCE = 1e-5
ROWS = {"S1": 0, "S2_RGB": 1, "S2_Red_Edge": 2, "S2_NIR_10m": 3, "S2_NIR_20m": 4, "S2_SWIR": 5, "NDVI": 6}
"""Of the published codes of groups."""
CHANNELS = tuple(range(2, 13))
"""Of the published input that varies in space and time: the bands of Sentinel-2 and the NDVI."""
NUMBERS = 1e4
"""Published statistics are of reflectance times this, but for the NDVI."""
WHAT = "Galileo's published weights"


def convert(source: str | Path, out: str | Path) -> EncoderCard:
    """A package of an encoder in ``out``; its card.

    Raises InputError for a missing file, ModelError if weights do not fit or the output is not that of the reference.
    """
    folder = Path(source)
    path = inside(folder, "encoder.safetensors")
    published = tensors(path, WHAT)
    shift, scale = _scaling(folder / "normalization.json")
    sizes = _sizes(folder / "config.json")
    config: dict[str, object] = {**_sentinel2.config(), **sizes, "shift": shift, "scale": scale}
    module = models.encoder("galileo", {**config, "bands": len(_sentinel2.BANDS)})
    assert isinstance(module, GalileoEncoder)
    weights.fill(module, _ours(published, module, path), path)
    for name, code in (("pos_embed", module.position_codes), ("month_embed.weight", module.month_codes)):
        difference(code, take(published, name, path), TOLERANCE, f"galileo: {name}")
    card = _sentinel2.card(
        name="galileo-nano",
        description="Embeddings of a pixel's steps in a window, from Sentinel-2 top-of-atmosphere reflectance",
        architecture="galileo",
        config=config,
        steps=module.steps,
        width=module.width,
        training={"source": "https://github.com/nasaharvest/galileo", "paper": "https://arxiv.org/abs/2502.09356"},
        scores={"reference_difference": _compare(module, folder / "reference.npz")},
    )
    return encoder.save(module, card, out)


def _ours(published: dict[str, Tensor], module: GalileoEncoder, path: Path) -> dict[str, Tensor]:
    """The published tensors by our names; queries, keys and values are one tensor here."""
    found: dict[str, Tensor] = {}
    for name in module.state_dict():
        if ".qkv." in name:
            found[name] = torch.cat([take(published, name.replace("qkv", part), path) for part in "qkv"])
        elif name.startswith(("blocks.", "norm.")):
            found[name] = take(published, name, path)
    for k, group in enumerate(_sentinel2.GROUPS):
        theirs = f"space_time_embed.{group}.proj"
        found[f"project.{k}.weight"] = _of_a_pixel(take(published, f"{theirs}.weight", path))
        found[f"project.{k}.bias"] = take(published, f"{theirs}.bias", path)
    codes = take(published, "s_t_channel_embed", path)
    return found | {"group_codes": _sentinel2.group_codes(codes, ROWS, path)}


def _of_a_pixel(kernel: Tensor) -> Tensor:
    """(width, band) of the (width, band, k, k) projection of patches of k x k pixels.

    Patches are resized by the pseudoinverse: Beyer et al.: FlexiViT. CVPR 2023, https://arxiv.org/abs/2212.08013,
    equation 3, with bicubic resizing that smooths.
    """
    side = kernel.shape[-1]
    basis = torch.eye(side * side).view(-1, 1, side, side)
    resized = F.interpolate(basis, size=(1, 1), mode="bicubic", antialias=True).view(1, -1)
    found: Tensor = (kernel.flatten(2) @ torch.linalg.pinv(resized)).squeeze(-1)
    return found


@torch.no_grad()
def _compare(module: GalileoEncoder, path: Path) -> float:
    """Largest difference to the original's tokens of whole windows, of which nothing but Sentinel-2 is seen."""
    names = ("space_time_x", "space_time_mask", "months", "tokens")
    x, mask, months, expected = reference(path, WHAT, names)
    rows = [ROWS[group] for group in _sentinel2.GROUPS]
    if mask[..., rows].any() or x.shape[1:3] != (module.stride, module.stride):
        raise ModelError(f"{path}: the reference hides a token of Sentinel-2, or is of other windows")
    cells = x[..., list(CHANNELS)].flatten(1, 3)
    found = module.encode(cells, module.cell_codes(len(x), x.shape[3], months))
    return difference(found, expected[..., rows, :].flatten(1, 3), TOLERANCE, "galileo")


def _scaling(path: Path) -> tuple[list[float], list[float]]:
    """What is taken from each band and the NDVI, and what the rest is divided by: mean - 2 std, and 4 std."""
    found = _json(path, "Galileo's statistics")
    try:
        pairs = [(float(found["13"]["mean"][c]), float(found["13"]["std"][c])) for c in CHANNELS]
    except (KeyError, IndexError, TypeError, ValueError) as err:
        raise ModelError(f"{path}: expected mean and std of 13 channels ({err})") from err
    units = [NUMBERS] * len(_sentinel2.BANDS) + [1.0]
    shift = [(mean - 2 * std) / unit for (mean, std), unit in zip(pairs, units, strict=True)]
    return shift, [4 * std / unit for (_, std), unit in zip(pairs, units, strict=True)]


def _sizes(path: Path) -> dict[str, object]:
    found = _json(path, "Galileo's sizes")
    try:
        sizes = found["model"]["encoder"]
        if sizes["mlp_ratio"] != 4:
            raise ModelError(f"{path}: mlp_ratio {sizes['mlp_ratio']}; expected 4")
        return {
            "width": sizes["embedding_size"],
            "depth": sizes["depth"],
            "heads": sizes["num_heads"],
            "steps": sizes["max_sequence_length"],
        }
    except (KeyError, TypeError) as err:
        raise ModelError(f"{path}: expected the sizes of an encoder ({err})") from err


def _json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected {what}") from err
    except (ValueError, RecursionError) as err:
        raise ModelError(f"{path}: not JSON ({err}); expected {what}") from err
