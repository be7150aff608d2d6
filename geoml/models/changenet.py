"""ChangeNet: one encoder for every date; at several depths both are brought to full size and classified together.

Varghese, Gubbi, Ramaswamy, Balamuralidhar: ChangeNet: A Deep Learning Architecture for Visual Change Detection. ECCV
Workshops 2018, https://doi.org/10.1007/978-3-030-11012-3_10. As there: ResNet-50; after its third, fourth and fifth
block a 1 x 1 convolution narrows the features of each date, a bilinear deconvolution brings them to full size, both
dates are concatenated, 1 x 1 convolutions give logits of this depth, and the sum over depths is the answer.

Differences from the paper: there, the narrow features are as many as the classes (11) and the logits are linear in
them, which makes them a sum of one term per date. No such sum can express "they differ" (an exclusive or), so there is
a hidden layer in the 1 x 1 convolutions; ``hidden=0`` is the network of the paper. Its first half is applied before the
deconvolution, with which it commutes. The encoder is trained with the rest; more than two dates are concatenated alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.encoders import initialise
from geoml.nn.padding import padded
from geoml.nn.siamese import SiameseConfig, concatenated, features, stacked

TASKS = ("change",)
TINY = {"encoder": "resnet18", "depths": (2, 3), "channels": 8, "hidden": 16}


@dataclass(frozen=True)
class Config(SiameseConfig):
    """Arguments of `build`: ``depths`` of the encoder that are looked at (d has stride 2^d), ``channels`` of each date
    and depth, and the width of the ``hidden`` layer."""

    encoder: str = "resnet50"
    depths: tuple[int, ...] = (3, 4, 5)
    channels: int = 16
    hidden: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or not set(self.depths) <= {1, 2, 3, 4, 5}:
            raise InputError(f"depths: {self.depths}; expected some of 1, 2, 3, 4, 5")
        if len(set(self.depths)) < len(self.depths):
            raise InputError(f"depths: {self.depths}; expected each one once")
        if self.channels < 1 or self.hidden < 0:
            raise InputError(f"channels {self.channels}, hidden {self.hidden}; expected at least 1 and 0")


class ChangeNet(nn.Module):
    """Logits for any height and width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dates = config.dates
        self.stride = 2 ** max(config.depths)
        self.net = features(config, config.depths)
        joined = config.dates * config.channels
        self.narrow = nn.ModuleList(nn.Conv2d(c, config.channels, 1) for c in self.net.channels)
        self.join = nn.ModuleList(nn.Conv2d(joined, config.hidden or config.classes, 1) for _ in config.depths)
        self.heads = nn.ModuleList(_head(config) for _ in config.depths)
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        logits = x.new_zeros(())
        levels = self.net(stacked(x, self.dates))
        for level, narrow, join, head in zip(levels, self.narrow, self.join, self.heads, strict=True):
            y = join(concatenated(narrow(level), self.dates))
            logits = logits + head(F.interpolate(y, size=x.shape[-2:], mode="bilinear"))
        return logits


def _head(config: Config) -> nn.Module:
    """From the hidden layer to logits; nothing where there is none."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(config.hidden, config.classes, 1)) if config.hidden else nn.Identity()


build = ChangeNet
