"""How sure a network of classes may be: its temperature, by pixels that it has not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from geoml.backends.torch import Device, choose
from geoml.data.chips import EvalBatches
from geoml.data.recipe import RasterRecipe
from geoml.data.scene import Piece
from geoml.engine.packages.calibrate import Read
from geoml.engine.packages.package import Package
from geoml.nn.linear_heads import temperature
from geoml.nn.metrics import IGNORE

PIXELS = 4096
"""Of each chip at most, drawn with equal chance: neighbours say the same."""


@torch.inference_mode()
def fitted_temperature(packages: Sequence[tuple[Package, Sequence[Piece]]], recipe: RasterRecipe, read: Read) -> float:
    """The temperature that fits what packages say of the labelled pixels of pieces, all together; 1 without a pixel.

    Chips are looked at one by one, as in the validation of a training.
    """
    device = choose(precision=None if recipe.precision == "auto" else recipe.precision)
    logits, truth = [torch.zeros(0, len(packages[0][0].card.classes))], [torch.zeros(0, dtype=torch.int64)]
    draw = torch.Generator().manual_seed(0)
    for package, pieces in packages:
        forward = _forward(package, device)
        for batch in EvalBatches(pieces, recipe.target, max(recipe.chip_size, 256), 1, read).of():
            known = torch.nonzero(batch.target[0] != IGNORE)
            if not len(known):
                continue
            y, x = known[torch.randperm(len(known), generator=draw)[:PIXELS]].T
            logits.append(forward(batch.image, batch.valid)[0][:, y, x].T)
            truth.append(batch.target[0][y, x].long())
    said, y = torch.cat(logits).double().numpy(), torch.cat(truth).numpy()
    return temperature(said, y, np.ones(len(y))) if len(y) else 1.0


def _forward(package: Package, device: Device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    card = package.card
    mean, std = (
        torch.from_numpy(np.tile([getattr(b, k) for b in card.bands], card.dates).astype(np.float32)).reshape(-1, 1, 1)
        for k in ("mean", "std")
    )
    net = device.place(package.module.eval())

    def forward(image: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        x = ((image - mean) / std * valid.unsqueeze(1)).to(device.torch)
        with device.autocast():
            raw: torch.Tensor = net(x.contiguous(memory_format=torch.channels_last))
        return raw.float().cpu()

    return forward
