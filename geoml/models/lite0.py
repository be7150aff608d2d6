"""Early stages of EfficientNet-Lite0 as a pixel encoder: the surroundings of a pixel, learnt from ImageNet only.

Tan, Le: EfficientNet. 2019, https://arxiv.org/abs/1905.11946; Lite0 is its variant without squeeze-and-excitation, by
timm. The maps of the first stages, enlarged to pixels, are side by side the embedding: a hypercolumn (Hariharan et al.
2015, https://arxiv.org/abs/1411.5752). Steps are encoded one by one, and the observations of a pixel are averaged. It
sees windows side by side, mirrored at their edges, so the result does not depend on how a scene is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.encoders import LITE0, plain_encoder
from geoml.nn.steps import steps_of

TASKS = ("segmentation",)
TINY = {"window": 8}

CROWD = 8
"""Windows that the network sees at once."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``bands`` of one step; ``depth`` stages, each of half the resolution of the one before;
    ``window`` pixels a side, ``steps`` the most that a series has."""

    bands: int
    classes: int
    dates: int = 1
    depth: int = 3
    window: int = 64
    steps: int = 24

    def __post_init__(self) -> None:
        if min(self.bands, self.classes, self.dates) < 1:
            raise InputError(f"lite0: {self}; expected at least one of each")
        if self.dates > self.steps:
            raise InputError(f"dates: {self.dates}; lite0 takes at most {self.steps}")
        if not 3 <= self.depth <= 5:
            raise InputError(f"depth: {self.depth}; expected 3 to 5")
        if self.window < 1 or self.window % 2 ** (self.depth - 1):
            raise InputError(f"window: {self.window}; expected a multiple of {2 ** (self.depth - 1)}")


class Lite0Encoder(nn.Module):
    """Embeddings (batch, width, y, x); 0 in a pixel without a look.

    Windows lie side by side from the top left, so chips that start at multiples of ``stride`` see the same.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bands, self.steps = config.bands, config.steps
        self.net, channels = plain_encoder(LITE0, None, config.bands, config.depth)
        self.width = sum(channels[1:])
        self.stride, self.radius = config.window, config.window - 1

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch step y x"] | None = None
    ) -> Float[Tensor, "batch width y x"]:
        batch, channels, height, width = x.shape
        steps = steps_of(channels, self.bands, self.steps)
        if looks is None:
            looks = x.new_ones(batch, steps, height, width, dtype=torch.bool)
        side = self.stride
        short = (0, -width % side, 0, -height % side)  # nothing is seen there
        seen, padded = F.pad(looks, short), F.pad(x, short)
        total = x.new_zeros(batch, self.width, *seen.shape[-2:])
        for step in range(steps):
            known = seen[:, step : step + 1]
            image = torch.where(known, padded[:, step * self.bands : (step + 1) * self.bands], 0.0)
            total = total + self.whole(image).to(total.dtype) * known
        out: Tensor = total / seen.sum(1, keepdim=True).clamp_min(1)
        return out[..., :height, :width]

    def whole(self, image: Float[Tensor, "batch band y x"]) -> Float[Tensor, "batch width y x"]:
        """The embedding of one step, of whole windows."""
        side = self.stride
        rows, columns = (n // side for n in image.shape[-2:])
        cut = image.reshape(len(image), self.bands, rows, side, columns, side)
        windows = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        if self.training:  # statistics are those of the batch
            found = self.window(windows)
        else:  # so many at once, the last ones filled up, that no sum hangs on how many are asked
            count = len(windows)
            filled = torch.cat([windows, windows[:1].expand(-count % CROWD, -1, -1, -1)])
            found = torch.cat([self.window(part) for part in torch.split(filled, CROWD)])[:count]
        parts = found.reshape(len(image), rows, columns, self.width, side, side)
        return parts.permute(0, 3, 1, 4, 2, 5).reshape(len(image), self.width, rows * side, columns * side)

    def window(self, image: Float[Tensor, "window band side side"]) -> Float[Tensor, "window width side side"]:
        """The embedding of whole windows of one step."""
        edge = self.stride // 2
        padded = F.pad(image, (edge, edge, edge, edge), mode="reflect")
        maps = self.net(padded)[1:]
        grown = [F.interpolate(m, size=padded.shape[-2:], mode="bilinear", align_corners=False) for m in maps]
        return torch.cat(grown, 1)[..., edge:-edge, edge:-edge]


class Lite0Pixels(nn.Module):
    """Logits: the embedding of each pixel and a linear layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Lite0Encoder(config)
        self.stride, self.radius = self.encoder.stride, self.encoder.radius
        self.head = nn.Conv2d(self.encoder.width, config.classes, 1)

    def forward(
        self, x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch step y x"] | None = None
    ) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = self.head(self.encoder(x, looks))
        return logits


build = Lite0Pixels
encoder = Lite0Encoder
