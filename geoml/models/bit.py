"""BIT: a transformer over a few semantic tokens of all dates refines the features, which are then subtracted.

Chen, Qi, Shi: Remote Sensing Image Change Detection with Transformers. IEEE TGRS 2021,
https://arxiv.org/abs/2103.00208. As there: features of a ResNet-18 without its last stage, one token for each of four
learnt attention maps, a transformer encoder over the tokens of both dates, a decoder in which every pixel of a date
attends to the tokens of that date, and a small head on the difference. Tokens pool the whole chip, so chips are blended
and not joined exactly. Differences from the paper: the deep stage is dilated, any encoder that can be dilated works,
more than two dates are allowed (each is compared with the next), and differences may keep their sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.encoders import initialise
from geoml.nn.padding import padded
from geoml.nn.siamese import SiameseConfig, apart, differences, features, stacked

TASKS = ("change",)
TINY = {"encoder": "resnet18", "depth": 3, "width": 16, "heads": 2, "decoder_depth": 2}


@dataclass(frozen=True)
class Config(SiameseConfig):
    """Arguments of `build`: stages of the encoder, tokens of each date, width of pixels and tokens, the transformer.

    ``signed`` differences tell from-to from to-from; by default (None) they are signed where there are more than two
    classes, and absolute, as in the paper, where there are two.
    """

    depth: int = 4
    width: int = 32
    tokens: int = 4
    heads: int = 8
    head_width: int = 8
    encoder_depth: int = 1
    decoder_depth: int = 8
    signed: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 3 <= self.depth <= 5:
            raise InputError(f"depth: {self.depth}; expected 3, 4 or 5")
        for name in ("width", "tokens", "heads", "head_width", "encoder_depth", "decoder_depth"):
            if vars(self)[name] < 1:
                raise InputError(f"{name}: {vars(self)[name]}; expected at least one")


class Attention(nn.Module):
    """Queries attend to tokens with several heads."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width)

    def forward(
        self, x: Float[Tensor, "batch query width"], tokens: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch query width"]:
        q, k, v = (
            y.reshape(*y.shape[:2], self.heads, -1).transpose(1, 2)
            for y in (self.query(x), self.key(tokens), self.value(tokens))
        )
        y: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return y


class TransformerLayer(nn.Module):
    """Attention to ``tokens`` (None: to ``x`` itself) and two linear layers, each normalised before and added."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.head_width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "batch query width"], tokens: Float[Tensor, "batch token width"] | None = None
    ) -> Float[Tensor, "batch query width"]:
        y = self.norm(x)
        x = x + self.attention(y, y if tokens is None else self.norm(tokens))
        x = x + self.mlp(x)
        return x


class BIT(nn.Module):
    """Logits for any height and width."""

    stride = 8

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dates = config.dates
        self.signed = config.classes > 2 if config.signed is None else config.signed
        self.net = features(config, (config.depth,), self.stride)
        width = config.width
        self.project = nn.Conv2d(self.net.channels[0], width, 3, padding=1)
        self.attend = nn.Conv2d(width, config.tokens, 1, bias=False)
        self.position = nn.Parameter(torch.randn(1, config.dates * config.tokens, width))
        self.encoder_layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.encoder_depth))
        self.decoder_layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.decoder_depth))
        compared = (config.dates - 1) * width
        self.head = nn.Sequential(
            nn.Conv2d(compared, compared, 3, padding=1, bias=False),
            nn.BatchNorm2d(compared),
            nn.ReLU(),
            nn.Conv2d(compared, config.classes, 3, padding=1),
        )
        initialise(self, config.encoder, config.encoder_weights)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        return padded(self._forward, x, self.stride)

    def _forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch class y x"]:
        (deep,) = self.net(stacked(x, self.dates))
        y = self.project(F.interpolate(deep, scale_factor=2.0, mode="nearest"))
        y = self.refine(y, self.mix(self.tokens(y)))
        change = differences(apart(y, self.dates), self.signed)
        logits: Tensor = self.head(F.interpolate(change, size=x.shape[-2:], mode="bilinear"))
        return logits

    def tokens(self, y: Float[Tensor, "image width y x"]) -> Float[Tensor, "image token width"]:
        """Means of the features of each date, weighted by attention maps."""
        weight = self.attend(y).flatten(2).softmax(-1)
        return torch.bmm(weight, y.flatten(2).transpose(1, 2))

    def mix(self, tokens: Float[Tensor, "image token width"]) -> Float[Tensor, "image token width"]:
        """The tokens after those of all dates have attended to each other."""
        z = tokens.reshape(-1, self.dates * tokens.shape[1], tokens.shape[2]) + self.position
        for layer in self.encoder_layers:
            z = layer(z)
        return z.reshape(tokens.shape)

    def refine(
        self, y: Float[Tensor, "image width y x"], tokens: Float[Tensor, "image token width"]
    ) -> Float[Tensor, "image width y x"]:
        """The features after every pixel has attended to the tokens of its date."""
        pixels = y.flatten(2).transpose(1, 2)
        for layer in self.decoder_layers:
            pixels = layer(pixels, tokens)
        return pixels.transpose(1, 2).reshape(y.shape)


build = BIT
