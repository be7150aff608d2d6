"""Teach a network which pixels of two rectified views are the same, where the disparity is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml.cube.stereo.tile import TileViews
from geoml.models.siamese_matching import Config, SiameseMatching, cosines, normalised

SIDE = 96
"""Pixels of a piece of a tile that is learnt at once."""
NEAR = 1.0
"""Pixels around the true disparity that are not wrong, with weights that fall to 0."""


@dataclass(frozen=True, eq=False)
class KnownTile:
    """Views of a tile with the disparity (y, x) float32 of the left one, as an index into the ``depth`` that were
    asked; NaN where it is not known."""

    views: TileViews
    disparity: NDArray[np.float32]
    depth: int


def fit(
    tiles: Sequence[KnownTile], config: Config, *, steps: int = 600, rate: float = 2e-3, seed: int = 0
) -> SiameseMatching:
    """A network for tiles of known geometry; the same for the same seed on one machine.

    Cross entropy over all disparities of a pixel. Contrast and brightness of either view are drawn again each time.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = SiameseMatching(config).train()
    sharpness = nn.Parameter(torch.tensor(2.0))
    optimiser = torch.optim.Adam([*network.parameters(), sharpness], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        one = tiles[int(rng.integers(len(tiles)))]
        loss = _loss(network, sharpness, one, rng)
        if loss is None:
            continue
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


def _loss(
    network: SiameseMatching, sharpness: nn.Parameter, one: KnownTile, rng: np.random.Generator
) -> torch.Tensor | None:
    height, width = one.disparity.shape
    top, start = (int(rng.integers(max(1, n - SIDE))) for n in (height, width))
    rows = slice(top, top + SIDE)
    columns, far = slice(start, start + SIDE), slice(start, start + SIDE + one.depth - 1)
    truth = torch.from_numpy(np.nan_to_num(one.disparity[rows, columns], nan=-1))
    known = (truth >= 0) & (truth <= one.depth - 1) & torch.from_numpy(one.views.left_known[rows, columns])
    if int(known.sum()) < SIDE:
        return None
    left = normalised(one.views.left[rows, columns], one.views.left_known[rows, columns])
    right = normalised(one.views.right[rows, far], one.views.right_known[rows, far])
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    pictures = [
        p * float(rng.uniform(0.8, 1.25))
        + float(rng.normal(0, 0.1))
        + float(rng.uniform(0, 0.15)) * torch.randn(p.shape, generator=noise)
        for p in (left, right)
    ]
    a, b = (network(p)[0].permute(1, 2, 0) for p in pictures)
    scores = cosines(a, b, one.depth)[known] * sharpness.exp()
    wanted = (NEAR + 0.5 - (torch.arange(one.depth) - truth[known][:, None]).abs()).clamp_(min=0)
    wanted = wanted / wanted.sum(1, keepdim=True).clamp_(min=1e-6)
    return -(wanted * torch.log_softmax(scores, 1)).sum(1).mean()
