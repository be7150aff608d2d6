"""Siamese U-Net: one encoder for every date, and a U-Net decoder for the difference or concatenation of features.

Daudt, Le Saux, Boulch: Fully Convolutional Siamese Networks for Change Detection. ICIP 2018,
https://arxiv.org/abs/1810.08462 (FC-Siam-diff and FC-Siam-conc). As there, the dates are fused at every scale.
Differences from the paper: any encoder of segmentation-models-pytorch and its decoder; the coarsest features are fused
too (there they are those of the last date); no dropout; more than two dates; differences may keep their sign. FC-EF,
the third network of the paper, is `unet` on all dates as bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from segmentation_models_pytorch.base.initialization import initialize_decoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from geoml.nn.encoders import initialise
from geoml.nn.padding import padded
from geoml.nn.siamese import SiameseConfig, apart, concatenated, differences, stacked
from geoml.nn.unet import UNetConfig, unet

TASKS = ("change",)
TINY = {"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)}


@dataclass(frozen=True)
class Config(SiameseConfig, UNetConfig):
    """Arguments of `build`; ``depth`` and ``decoder_channels`` as of `unet`.

    ``difference`` compares each date with the next (n dates give n - 1 differences), ``concatenation`` hands the
    features of all dates on. ``signed`` differences tell from-to from to-from; by default (None) they are signed where
    there are more than two classes, and absolute, as in the paper, where there are two.
    """

    fusion: Literal["difference", "concatenation"] = "difference"
    signed: bool | None = None


class SiameseUNet(nn.Module):
    """Logits for any height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        # a U-Net for one date has all parts and their names, so that weights of segmentation fit
        self.net = unet(config)
        self.dates = config.dates
        self.concatenates = config.fusion == "concatenation"
        self.signed = config.classes > 2 if config.signed is None else config.signed
        self.stride = 2**config.depth
        wider = config.dates if self.concatenates else config.dates - 1
        if wider > 1:
            self.net.decoder = UnetDecoder(
                [wider * c for c in self.net.encoder.out_channels],
                config.channels,
                n_blocks=config.depth,
                add_center_block=config.encoder.startswith("vgg"),
            )
            initialize_decoder(self.net.decoder)
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        # the first is the image itself, of which the decoder takes nothing but the size
        image, *features = self.net.encoder(stacked(x, self.dates))
        logits: Tensor = self.net.segmentation_head(self.net.decoder([image, *map(self.fuse, features)]))
        return logits

    def fuse(self, level: Float[Tensor, "image channel y x"]) -> Float[Tensor, "batch fused y x"]:
        """Features of one scale, of every date, to what the decoder takes."""
        if self.concatenates:
            return concatenated(level, self.dates)
        return differences(apart(level, self.dates), self.signed)


build = SiameseUNet
