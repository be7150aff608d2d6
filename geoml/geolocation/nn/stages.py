"""Features of several depths of a frozen network: mean and deviation of its later stages, not its last layer only.

What the last layer of an ImageNet network keeps is what tells cats from cars. Texture and colour of the ground lie in
the middle, so places of the Earth are told better by the pooled stages (measured in docs/geolocation.md); the
deviation within the picture, next to the mean, is the diagonal of the Gram matrix of Gatys et al. 2016 (texture).
"""

from __future__ import annotations

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from geoml.geolocation.nn.backbones import IMAGENET_MEAN, IMAGENET_STD, Backbone
from geoml.nn.weights.transfer import copy_matching, efficientnet_lite0

NAME = "efficientnet-lite0-stages"
CHANNELS = {4: 112, 5: 192, 6: 320}
"""Of the later stages of EfficientNet-Lite0."""
STD, MEAN = (4,), (4, 5, 6)
"""Stages whose deviation and whose mean are features."""
SIZE = 160
"""Pixels: the stages are pooled, so a smaller picture costs less and loses little."""


class Stages(nn.Module):
    """(B, 3, H, W) to (B, F): means and standard deviations over the picture of the chosen stages."""

    def __init__(self) -> None:
        super().__init__()
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        self.conv_stem, self.bn1, self.blocks = map(net.get_submodule, ("conv_stem", "bn1", "blocks"))
        self.features = sum(CHANNELS[i] for i in (*MEAN, *STD))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        x = self.bn1(self.conv_stem(x))
        out = []
        for i, block in enumerate(self.blocks.children()):
            x = block(x)
            wide = x.float()  # a deviation in half precision would be noise
            if i in MEAN:
                out.append(wide.mean((2, 3)))
            if i in STD:
                out.append(torch.sqrt(wide.var((2, 3), correction=0) + 1e-12))
        return torch.cat(out, 1)


def build(weights: str | None = None) -> Backbone:
    """The backbone ``efficientnet-lite0-stages``; ``weights``: None for random ones, or ``imagenet`` from its package.

    Raises MissingExtra if the package is not installed.
    """
    net = Stages()
    if weights == "imagenet":
        whole = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        efficientnet_lite0(whole)
        copy_matching(net, whole.state_dict())
    return Backbone(NAME, net, net.features, SIZE, IMAGENET_MEAN, IMAGENET_STD)
