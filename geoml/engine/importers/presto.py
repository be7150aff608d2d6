"""The published encoder of Presto, for Sentinel-2 at the top of the atmosphere.

``source`` holds ``presto.safetensors``, the published state by name, and ``reference.npz``: values, months, places and
the embeddings that the original gave. Its other tokens (Sentinel-1, ERA5, SRTM, Dynamic World) are left out, because
the reference says nothing of them, and so is the decoder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from geoml import models
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.importers import _sentinel2
from geoml.engine.importers._published import difference, inside, reference, take, tensors
from geoml.engine.packages import encoder, weights
from geoml.errors import ModelError
from geoml.models.presto import PrestoEncoder
from geoml.nn.steps import on_sphere

TOLERANCE = 1e-5
ROWS = {"S1": 0, "S2_RGB": 1, "S2_Red_Edge": 2, "S2_NIR_10m": 3, "S2_NIR_20m": 4, "S2_SWIR": 5, "NDVI": 8}
"""Of the published codes of groups."""
CHANNELS = (*range(2, 12), 16)
"""Of the published input: the bands of Sentinel-2 and the NDVI."""
WHAT = "Presto's published weights"


def convert(source: str | Path, out: str | Path) -> EncoderCard:
    """A package of an encoder in ``out``; its card.

    Raises InputError for a missing file, ModelError if weights do not fit or the output is not that of the reference.
    """
    folder = Path(source)
    path = inside(folder, "presto.safetensors")
    published = tensors(path, WHAT)
    config = _sentinel2.config()
    module = models.encoder("presto", {**config, "bands": len(_sentinel2.BANDS)})
    assert isinstance(module, PrestoEncoder)
    weights.fill(module, _ours(published, module, path), path)
    for name, code in (("pos_embed", module.position_codes), ("month_embed.weight", module.month_codes)):
        given = take(published, f"encoder.{name}", path)
        difference(code, given.reshape(code.shape) if given.numel() == code.numel() else given, TOLERANCE, name)
    card = _sentinel2.card(
        name="presto",
        description="Embeddings of a pixel's steps, from Sentinel-2 top-of-atmosphere reflectance",
        architecture="presto",
        config=config,
        steps=module.steps,
        width=module.width,
        training={"source": "https://github.com/nasaharvest/presto", "paper": "https://arxiv.org/abs/2304.14065"},
        scores={"reference_difference": _compare(module, folder / "reference.npz")},
    )
    return encoder.save(module, card, out)


def _ours(published: dict[str, Tensor], module: PrestoEncoder, path: Path) -> dict[str, Tensor]:
    """The published tensors by our names; their blocks have the same."""
    names = {name: f"encoder.{name}" for name in module.state_dict() if name.startswith(("blocks.", "norm."))}
    for k, group in enumerate(_sentinel2.GROUPS):
        names |= {f"project.{k}.{part}": f"encoder.eo_patch_embed.{group}.{part}" for part in ("weight", "bias")}
    names |= {f"place.{part}": f"encoder.latlon_embed.{part}" for part in ("weight", "bias")}
    codes = take(published, "encoder.channel_embed.weight", path)
    found = {ours: take(published, theirs, path) for ours, theirs in names.items()}
    return found | {"group_codes": _sentinel2.group_codes(codes, ROWS, path)}


@torch.no_grad()
def _compare(module: PrestoEncoder, path: Path) -> float:
    """Largest difference to the original's embeddings of months in a row, of which nothing but Sentinel-2 is seen."""
    names = ("x", "mask", "latlon", "month", "embedding")
    x, mask, latlon, month, expected = reference(path, WHAT, names)
    if mask[..., list(CHANNELS)].any() or not mask[..., [k for k in range(16) if k not in CHANNELS]].all():
        raise ModelError(f"{path}: the reference sees more or less than Sentinel-2 and the NDVI")
    steps = x.shape[1]
    months = (month[:, None] + torch.arange(steps)) % 12
    place = on_sphere(latlon.flip(1)[..., None, None])
    found = module.encode(x[..., list(CHANNELS)], module.step_codes(len(x), steps, months), place)
    return difference(found, expected, TOLERANCE, "presto")
