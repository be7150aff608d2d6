"""DeepLabV3+: atrous convolutions at several rates together with the mean of the whole chip, and a light decoder.

Chen et al.: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation. ECCV 2018,
https://arxiv.org/abs/1802.02611. Built by segmentation-models-pytorch with any encoder that can be dilated.
Its image pooling sees the whole chip, so chips are blended and not joined exactly; a training batch needs two samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import segmentation_models_pytorch as smp
from jaxtyping import Float
from torch import Tensor, nn

from geoml.nn.encoders import EncoderConfig, initialise, segmentation_model
from geoml.nn.padding import padded

TASKS = ("segmentation", "change")
TINY = {"encoder": "resnet18", "decoder_channels": 16}


@dataclass(frozen=True)
class Config(EncoderConfig):
    """Arguments of `build`; ``output_stride`` 8 sees finer and costs four times as much in the deep layers."""

    decoder_channels: int = 256
    output_stride: Literal[8, 16] = 16
    atrous_rates: tuple[int, int, int] = (12, 24, 36)


class DeepLabV3Plus(nn.Module):
    """Logits for any height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.net = segmentation_model(
            smp.DeepLabV3Plus,
            config.encoder,
            config.encoder_weights,
            config.bands,
            encoder_output_stride=config.output_stride,
            decoder_channels=config.decoder_channels,
            decoder_atrous_rates=config.atrous_rates,
            classes=config.classes,
        )
        self.stride = config.output_stride
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self.net, x, self.stride)


build = DeepLabV3Plus
