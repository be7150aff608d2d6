"""What the cells of a grid say to each other: the same everywhere, and only so far, so that no cut of it counts."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAST = 1e-6
"""Of the weights of all around: with less known, nothing is heard."""


class CellMessages(nn.Module):
    """Means of what is known at most ``reach`` cells away along each axis: by distance, and by ``kernels`` adjacencies
    that are learned of the position of one cell to another.

    Where stations have embeddings whose products say who hears whom, a cell has its position to the one that listens:
    weights are those of a normalised convolution (H. Knutsson and C.-F. Westin 1993,
    https://doi.org/10.1109/CVPR.1993.341081), which leaves out what is not known or lies beyond the edge.
    """

    away: Tensor

    def __init__(self, reach: int, kernels: int) -> None:
        super().__init__()
        self.reach, self.sides = reach, 1 + kernels
        side = torch.arange(-reach, reach + 1, dtype=torch.float32)
        self.register_buffer("away", torch.hypot(side[:, None], side), persistent=False)
        self.log_width = nn.Parameter(torch.tensor(max(1.0, reach / 2)).log())
        self.logits = nn.Parameter(0.1 * torch.randn(kernels, 2 * reach + 1, 2 * reach + 1))

    @property
    def weights(self) -> Float[Tensor, "side row column"]:
        """How much is heard of each relative position, which sums to 1; by distance, then the learned ones."""
        near = -((self.away / self.log_width.exp()) ** 2)
        logits = torch.cat([near[None], self.logits])
        return torch.softmax(logits.flatten(1), 1).view_as(logits)

    def forward(
        self, x: Float[Tensor, "batch feature y x"], known: Bool[Tensor, "batch y x"]
    ) -> Float[Tensor, "batch heard y x"]:
        """Of each feature what every side hears; 0 where nothing around is known."""
        weights, there = self.weights[:, None], known[:, None].to(x.dtype)
        said = F.conv2d((x * there).flatten(0, 1)[:, None], weights, padding=self.reach)
        share = F.conv2d(there, weights, padding=self.reach)
        said = torch.unflatten(said, 0, x.shape[:2])
        mean = said / share.clamp(min=LEAST)[:, None]
        return torch.where((share > LEAST)[:, None], mean, 0.0).flatten(1, 2)
