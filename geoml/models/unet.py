"""U-Net: an encoder, and a decoder that brings its features back at every scale.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
https://arxiv.org/abs/1505.04597. Built by segmentation-models-pytorch with any of its encoders.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from geoml.nn.encoders import initialise
from geoml.nn.padding import padded
from geoml.nn.unet import UNetConfig, unet

TASKS = ("segmentation", "change")
TINY = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}


@dataclass(frozen=True)
class Config(UNetConfig):
    """Arguments of `build`."""


class UNet(nn.Module):
    """(B, bands, H, W) float to (B, classes, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.net = unet(config)
        self.stride = 2**config.depth
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Tensor) -> Tensor:
        return padded(self.net, x, self.stride)


def build(config: Config) -> UNet:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return UNet(config)
