"""U-Net: an encoder, and a decoder that brings its features back at every scale.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
https://arxiv.org/abs/1505.04597. Built by segmentation-models-pytorch with any of its encoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.nn.encoders import EncoderConfig, initialise, segmentation_model
from geoml.nn.padding import padded

TASKS = ("segmentation", "change")
TINY = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Arguments of `build`; a smaller ``depth`` gives a smaller stride and a smaller receptive field."""

    depth: int = 5
    decoder_channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 3 <= self.depth <= 5:
            raise InputError(f"depth: {self.depth}; expected 3, 4 or 5")
        if self.decoder_channels is not None and len(self.decoder_channels) != self.depth:
            raise InputError(f"decoder_channels: {len(self.decoder_channels)} numbers; expected depth = {self.depth}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the decoder, coarse to fine; by default those of the last ``depth`` steps of 256 … 16."""
        return self.decoder_channels or (256, 128, 64, 32, 16)[-self.depth :]


class UNet(nn.Module):
    """(B, bands, H, W) float to (B, classes, H, W) logits; any H and W."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.net = segmentation_model(
            smp.Unet,
            config.encoder,
            config.encoder_weights,
            config.bands,
            encoder_depth=config.depth,
            decoder_channels=config.channels,
            classes=config.classes,
        )
        self.stride = 2**config.depth
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Tensor) -> Tensor:
        return padded(self.net, x, self.stride)


def build(config: Config) -> UNet:
    """The network, randomly initialised unless ``encoder_weights`` says otherwise. Raises InputError."""
    return UNet(config)
