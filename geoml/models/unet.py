"""U-Net: an encoder, and a decoder that reuses its features at every scale.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
https://arxiv.org/abs/1505.04597. Built by segmentation-models-pytorch with any of its encoders.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from geoml.nn.encoders import initialise
from geoml.nn.padding import padded
from geoml.nn.unet import UNetConfig, unet

TASKS = ("segmentation", "change")
TINY = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}
Config = UNetConfig


class UNet(nn.Module):
    """Logits for any height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.net = unet(config)
        self.stride = 2**config.depth
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self.net, x, self.stride)


build = UNet
