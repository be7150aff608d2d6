"""Presto: a transformer over the months of a single pixel and its location, using only the observations that exist.

Tseng et al.: Lightweight, Pre-trained Transformers for Remote Sensing Timeseries. 2023,
https://arxiv.org/abs/2304.14065. A token is a group of bands of one step; encodings of the month, the group and the
position in the series are added to its projection, and one more token is the location on Earth. The mean of all tokens
is the embedding. A missing observation has no token, so gaps may differ between the pixels of a batch. From the
published network, this is the encoder without its embedding of Dynamic World's classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.steps import TokenGroups, month_codes, on_sphere, packed, sequences, steps_of, with_ndvi
from geoml.nn.transformer import TransformerBlock

TASKS = ("segmentation",)
TINY = {"width": 32, "depth": 1, "heads": 2}


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``bands`` of one step; ``groups`` are positions of the bands that share a token (all, where
    empty), ``ndvi`` those of red and near infrared; ``steps`` is the most that a series has."""

    bands: int
    classes: int
    dates: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    ndvi: tuple[int, int] | None = None
    width: int = 128
    depth: int = 2
    heads: int = 8
    steps: int = 24

    def __post_init__(self) -> None:
        if min(self.bands, self.classes, self.dates, self.width, self.depth, self.heads) < 1:
            raise InputError(f"presto: {self}; expected at least one of each")
        if self.dates > self.steps:
            raise InputError(f"dates: {self.dates}; presto takes at most {self.steps}")
        if self.width % 8 or self.width % self.heads:
            raise InputError(f"width: {self.width}; expected a multiple of 8 and of {self.heads} heads")
        TokenGroups(self.bands, self.groups, self.ndvi)


def position_codes(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Sines and cosines of the place in the series in turn; the longest wave is 1000 steps."""
    rate = 1000.0 ** -(torch.arange(width // 2, dtype=torch.float64) * 2 / width)
    angle = torch.outer(torch.arange(count, dtype=torch.float64), rate)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()


class PrestoEncoder(nn.Module):
    """Embeddings (batch, width, y, x) of reflectance; 0 in a pixel without a look."""

    stride = 1
    radius = 0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bands, self.steps, self.ndvi, self.width = config.bands, config.steps, config.ndvi, config.width
        self.groups = TokenGroups(config.bands, config.groups, config.ndvi).channels
        quarter = config.width // 4
        self.project = nn.ModuleList(nn.Linear(len(group), config.width) for group in self.groups)
        self.group_codes = nn.Parameter(0.02 * torch.randn(len(self.groups), quarter))
        self.place = nn.Linear(3, config.width)
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.month_codes: Tensor
        self.position_codes: Tensor
        self.register_buffer("month_codes", month_codes(quarter), persistent=False)
        self.register_buffer("position_codes", position_codes(config.steps, config.width // 2), persistent=False)

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
        place: Float[Tensor, "batch 2 y x"] | None = None,
    ) -> Float[Tensor, "batch width y x"]:
        batch, _, height, width = x.shape
        steps = steps_of(x.shape[1], self.bands, self.steps)
        values = sequences(x, steps)
        seen = (
            values.new_ones(len(values), steps, dtype=torch.bool) if looks is None else sequences(looks, steps)[..., 0]
        )
        codes = self.step_codes(batch, steps, months)
        sample = torch.arange(batch, device=x.device).repeat_interleave(height * width)
        where = None if place is None else on_sphere(place)
        out = x.new_zeros(len(values), self.width)
        for part in packed(seen, len(self.groups)):
            rows, cells = part.rows[:, None], part.cells
            said = self.encode(
                with_ndvi(values[rows, cells], self.ndvi),
                codes[sample[rows], cells],
                None if where is None else where[part.rows],
            )
            out[part.rows[: part.count]] = said[: part.count].to(out.dtype)
        return torch.unflatten(out, 0, (batch, height, width)).movedim(-1, 1)

    def step_codes(
        self, batch: int, steps: int, months: Int[Tensor, "batch step"] | None
    ) -> Float[Tensor, "{batch} {steps} width"]:
        """Codes of month and place in the series, with room for that of the group between them."""
        quarter = self.width // 4
        position = self.position_codes[:steps].expand(batch, -1, -1)
        month = position.new_zeros(batch, steps, quarter) if months is None else self.month_codes[months]
        return torch.cat([month, position.new_zeros(batch, steps, quarter), position], -1)

    def encode(
        self,
        values: Float[Tensor, "pixel step channel"],
        codes: Float[Tensor, "pixel step width"],
        place: Float[Tensor, "pixel 3"] | None,
    ) -> Float[Tensor, "pixel width"]:
        """The embedding of looks, all of them seen; ``values`` end with the NDVI where there is one."""
        quarter = self.width // 4
        pad = (quarter, self.width - 2 * quarter)
        tokens = [
            project(values[..., list(group)]) + (codes + F.pad(code, pad))
            for group, project, code in zip(self.groups, self.project, self.group_codes, strict=True)
        ]
        if place is not None:
            tokens.insert(0, self.place(place)[:, None])
        x = torch.cat(tokens, 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x.mean(1))
        return out


class Presto(nn.Module):
    """Logits: the embedding of each pixel and a linear layer."""

    stride = 1
    radius = 0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = PrestoEncoder(config)
        self.head = nn.Conv2d(config.width, config.classes, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
        place: Float[Tensor, "batch 2 y x"] | None = None,
    ) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = self.head(self.encoder(x, looks, months, place))
        return logits


build = Presto
encoder = PrestoEncoder
