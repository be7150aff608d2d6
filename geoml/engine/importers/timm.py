"""A scene classifier of timm as a coarse map: its last layer is asked at every cell instead of once for the picture.

For a network that ends in an average over cells and a linear layer, the mean over the cells of a chip is exactly what
the original says of it, as in Zhou et al.: Learning Deep Features for Discriminative Localization. CVPR 2016,
https://arxiv.org/abs/1512.04150. ``--architecture`` is timm's name of the network. What ends otherwise is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.engine.importers import _folders, _network
from geoml.engine.importers._published import difference
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, ModelError, unknown
from geoml.io.cards.map_card import MapCard

WHAT = "a state dict of timm"


class Dense(nn.Module):
    """(batch, band, y, x) to (batch, class, y, x): the linear layer at every cell, drawn out to pixels."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.head = net, net.get_classifier()

    def cells(self, x: Tensor) -> Tensor:
        """(batch, class, cell, cell) logits."""
        found: Tensor = self.net.forward_features(x)
        logits: Tensor = F.conv2d(found, self.head.weight[:, :, None, None], self.head.bias)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.cells(x), size=x.shape[-2:], mode="bilinear", align_corners=False)


def convert(source: str | Path, out: str | Path, asked: ImportOptions) -> MapCard:
    """A package in ``out``; its card.

    Raises InputError for options that are missing and networks of another end, DataError for a pickle, ModelError for
    weights that do not fit.
    """
    import timm

    path, name = Path(source), asked.architecture
    if missing := [o for o, v in (("architecture", name), ("bands", asked.bands), ("classes", asked.classes)) if not v]:
        raise InputError(f"import: {path} does not contain everything; give --{', --'.join(missing)}")
    if name not in timm.list_models():
        raise unknown("network of timm", name, timm.list_models())
    net = timm.create_model(name, pretrained=False, in_chans=len(asked.bands), num_classes=len(asked.classes))
    dense = Dense(_folders.filled(net, _folders.checkpoint(path, WHAT), path)).eval()
    size = asked.chip_size or _network.CHIP
    off = _mean_is_the_original(dense, name, _network.sample(len(asked.bands), size))
    told = _network.Told(
        description=f"Coarse map by the scene classifier {name} of timm, whose last layer is applied at every cell",
        channels=len(asked.bands),
        outputs=len(asked.classes),
        stride=32,
        training={"imported": "timm", "network": name, "difference_of_the_mean": off},
    )
    return _network.save(dense, dense, asked, told, out)


@torch.no_grad()
def _mean_is_the_original(dense: Dense, name: str, chip: Tensor) -> float:
    """Largest difference of the mean over cells from what the classifier says of a chip."""
    if not isinstance(dense.head, nn.Linear):
        raise InputError(f"architecture: {name} does not end in a linear layer; expected a classifier")
    try:
        cells = dense.cells(chip).mean((2, 3))
        return difference(cells, dense.net(chip), _network.TOLERANCE, name)
    except (RuntimeError, ValueError, IndexError, ModelError) as err:
        why = "does not end in an average over cells and a linear layer"
        raise InputError(f"architecture: {name} {why} ({str(err)[:120]}); export it as a .pt2 of your own") from err
