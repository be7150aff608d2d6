"""Features that tell places on the ground apart: where in the picture what lies, and not only what lies in it.

The last two scales of EfficientNet-Lite0, pooled by generalised means (Radenovic et al. 2018,
https://arxiv.org/abs/1711.02512) over the whole picture and over its quarters, as the spatial
pyramid of Lazebnik et al. 2006 (https://doi.org/10.1109/CVPR.2006.68); then a linear map. Training knows the years that
it saw, the frozen network knows others as well, so both are kept side by side: a cosine is a weighed mean of theirs.
"""

from __future__ import annotations

import math

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from geoml.nn.weights.transfer import efficientnet_lite0

NAME = "efficientnet-lite0-places"
CHANNELS = 112 + 320
"""Of the last two scales of EfficientNet-Lite0."""
WIDTH = 256
SIDE = 128
KEPT = 0.9
"""Weight of the frozen cosine, which differs far less from place to place than the trained one."""


class Places(nn.Module):
    """(B, 3, H, W) normalised RGB to (B, ``features``) unit vectors.

    With ``project``, a linear map to ``WIDTH``; with ``kept`` as well, the frozen features beside it.
    """

    def __init__(self, *, project: bool = True, pretrained: bool = False, kept: bool = False) -> None:
        super().__init__()
        self.encoder = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3, 4))
        if pretrained:
            efficientnet_lite0(self.encoder)
        width = 5 * CHANNELS
        self.features = WIDTH if project else width
        self.project = nn.Linear(width, WIDTH) if project else nn.Identity()
        self.kept: Places | None = None
        if kept:
            self.keep(Places(project=False, pretrained=pretrained))

    def keep(self, frozen: Places) -> None:
        """Put the features of a frozen network beside those that were trained."""
        self.kept = frozen.requires_grad_(False).eval()
        self.features += frozen.features

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        pooled = []
        for scale in self.encoder(x):
            cubes = scale.float().clamp_min(1e-6).pow(3)
            for n in (1, 2):
                means = F.adaptive_avg_pool2d(cubes, n).pow(1 / 3).flatten(1)
                pooled.append(F.normalize(means, dim=1))
        joined = torch.cat(pooled, 1)
        if isinstance(self.project, nn.Linear):
            joined = joined.to(self.project.weight.dtype)
        own = F.normalize(self.project(joined).float(), dim=1)
        return own if self.kept is None else torch.cat([math.sqrt(KEPT) * self.kept(x), math.sqrt(1 - KEPT) * own], 1)


def build(weights: str | None = None) -> Backbone:
    """The backbone ``efficientnet-lite0-places``; ``weights``: None for random ones, which a package replaces, or
    ``imagenet`` for those where training starts. Raises MissingExtra if their package is not installed."""
    net = Places(pretrained=weights == "imagenet", kept=True)
    return Backbone(NAME, net, net.features, SIDE, IMAGENET_MEAN, IMAGENET_STD)
