"""Shared by U-Nets, for one date or several: their arguments, and the network of one date."""

from __future__ import annotations

from dataclasses import dataclass

import segmentation_models_pytorch as smp

from geoml.errors import InputError
from geoml.nn.encoders import EncoderConfig, segmentation_model


@dataclass(frozen=True)
class UNetConfig(EncoderConfig):
    """What the configs of U-Nets have; a smaller ``depth`` gives a smaller stride and a smaller receptive field."""

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


def unet(config: UNetConfig, channels: int | None = None) -> smp.Unet:
    """The U-Net of ``config`` for (B, bands, H, W), H and W multiples of ``2 ** depth``; it gives (B, channels, H, W).

    ``channels`` are by default ``classes``.
    """
    return segmentation_model(
        smp.Unet,
        config.encoder,
        config.encoder_weights,
        config.bands,
        encoder_depth=config.depth,
        decoder_channels=config.channels,
        classes=channels or config.classes,
    )
