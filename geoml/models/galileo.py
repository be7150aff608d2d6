"""Galileo: a transformer over the steps and pixels of a small window, using only the observations that exist.

Tseng et al.: Galileo: Learning Global & Local Features of Many Remote Sensing Modalities. 2025,
https://arxiv.org/abs/2502.09356. A token is a group of bands of one step of one pixel; encodings of the group, the
position in the series, the month and the position in the window are added to its projection. The embedding of a pixel
is the mean of its tokens, which attend to all others of the window. From the published network, this is the encoder for
patches of one pixel at 10 m and for what varies in space and time, without location tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.nn.steps import TokenGroups, month_codes, packed, steps_of, with_ndvi
from geoml.nn.transformer import TransformerBlock

TASKS = ("segmentation",)
TINY = {"width": 32, "depth": 1, "heads": 2, "window": 2}

BUCKET = 8
"""Looks of windows that go together differ by fewer; hidden ones are masked."""


@dataclass(frozen=True)
class Config:
    """Arguments of `build`: ``bands`` of one step; ``groups`` are positions of the bands that share a token (all, where
    empty), ``ndvi`` those of red and near infrared; ``steps`` is the most that a series has, ``window`` pixels a side.

    What the network sees of each band, and last of the NDVI, is (value - shift) / scale; one number is that of all."""

    bands: int
    classes: int
    dates: int = 1
    groups: tuple[tuple[int, ...], ...] = ()
    ndvi: tuple[int, int] | None = None
    shift: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    width: int = 128
    depth: int = 4
    heads: int = 8
    steps: int = 24
    window: int = 4

    def __post_init__(self) -> None:
        if min(self.bands, self.classes, self.dates, self.width, self.depth, self.heads, self.window) < 1:
            raise InputError(f"galileo: {self}; expected at least one of each")
        if self.dates > self.steps:
            raise InputError(f"dates: {self.dates}; galileo takes at most {self.steps}")
        if self.width % 16 or self.width % self.heads:
            raise InputError(f"width: {self.width}; expected a multiple of 16 and of {self.heads} heads")
        TokenGroups(self.bands, self.groups, self.ndvi)
        channels = self.bands + (self.ndvi is not None)
        for name, values in (("shift", self.shift), ("scale", self.scale)):
            if len(values) not in (1, channels):
                raise InputError(f"{name}: {len(values)} numbers; expected one, or one for each of {channels} channels")
        if min(self.scale) <= 0:
            raise InputError("scale: expected numbers above zero")


def position_codes(count: int, width: int) -> Float[Tensor, "{count} {width}"]:
    """Sines, then cosines of a position; as published, the longest wave is 10 times 2 pi positions long."""
    rate = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (2 * width))
    angle = torch.outer(torch.arange(count, dtype=torch.float64), rate)
    return torch.cat([angle.sin(), angle.cos()], 1).float()


class GalileoEncoder(nn.Module):
    """Embeddings (batch, width, y, x) of reflectance; 0 in a pixel without a look.

    Windows lie side by side from the top left, so chips that start at multiples of ``stride`` see the same.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bands, self.steps, self.ndvi, self.width = config.bands, config.steps, config.ndvi, config.width
        self.groups = TokenGroups(config.bands, config.groups, config.ndvi).channels
        self.stride, self.radius = config.window, config.window - 1
        quarter = config.width // 4
        self.project = nn.ModuleList(nn.Linear(len(group), config.width) for group in self.groups)
        self.group_codes = nn.Parameter(0.02 * torch.randn(len(self.groups), quarter))
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        side = position_codes(config.window, quarter // 2)
        across = torch.cat([side.repeat(config.window, 1), side.repeat_interleave(config.window, 0)], 1)
        self.shift: Tensor
        self.scale: Tensor
        self.month_codes: Tensor
        self.position_codes: Tensor
        self.pixel_codes: Tensor
        for name, value in (
            ("shift", torch.tensor(config.shift)),
            ("scale", torch.tensor(config.scale)),
            ("month_codes", month_codes(quarter)),
            ("position_codes", position_codes(config.steps, quarter)),
            ("pixel_codes", across),  # x, then y
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
    ) -> Float[Tensor, "batch width y x"]:
        batch, channels, height, width = x.shape
        steps = steps_of(channels, self.bands, self.steps)
        if looks is None:
            looks = x.new_ones(batch, steps, height, width, dtype=torch.bool)
        side = self.stride
        short = (0, -width % side, 0, -height % side)  # nothing is seen there
        values, seen = (_windows(F.pad(v, short), steps, side) for v in (x, looks))
        shape = -(-height // side), -(-width // side)
        sample = torch.arange(batch, device=x.device).repeat_interleave(shape[0] * shape[1])
        codes = self.cell_codes(batch, steps, months)
        total = x.new_zeros(len(values), side * side, self.width)
        for part in packed(seen[..., 0], len(self.groups), BUCKET):
            rows, cells = part.rows[:, None], part.cells
            said = self.encode(self.scaled(values[rows, cells]), codes[sample[rows], cells], part.seen)
            mean = said.mean(2).to(total.dtype)
            if part.seen is not None:
                mean = mean.masked_fill(~part.seen[..., None], 0.0)
            kept = slice(part.count)
            pixel = (cells // steps)[kept, :, None].expand(-1, -1, self.width)
            total[part.rows[kept]] = total.new_zeros(part.count, side * side, self.width).scatter_add(
                1, pixel, mean[kept]
            )
        count = torch.unflatten(seen[..., 0], 1, (side * side, steps)).sum(2)
        out = total / count.clamp_min(1)[..., None]
        out = out.reshape(batch, *shape, side, side, self.width).permute(0, 5, 1, 3, 2, 4)
        return out.flatten(4).flatten(2, 3)[..., :height, :width]

    def scaled(self, values: Float[Tensor, "*any band"]) -> Float[Tensor, "*any channel"]:
        """Reflectance, and the NDVI behind it, as the network sees them."""
        return (with_ndvi(values, self.ndvi) - self.shift) / self.scale

    def cell_codes(
        self, batch: int, steps: int, months: Int[Tensor, "batch step"] | None
    ) -> Float[Tensor, "{batch} cell width"]:
        """Codes of each step of each pixel of a window, with room for that of the group before them."""
        quarter, pixels = self.width // 4, len(self.pixel_codes)
        shape = (batch, pixels, steps, quarter)
        blank = self.position_codes.new_zeros(shape)
        month = blank if months is None else self.month_codes[months][:, None].expand(shape)
        position, pixel = self.position_codes[:steps].expand(shape), self.pixel_codes[:, None].expand(shape)
        return torch.cat([blank, position, month, pixel], -1).flatten(1, 2)

    def encode(
        self,
        values: Float[Tensor, "window cell channel"],
        codes: Float[Tensor, "window cell width"],
        seen: Bool[Tensor, "window cell"] | None = None,
    ) -> Float[Tensor, "window cell group width"]:
        """The tokens of cells, of scaled values; those that are not ``seen`` change no other."""
        pad = (0, self.width - self.width // 4)
        tokens = [
            project(values[..., list(group)]) + (codes + F.pad(code, pad))
            for group, project, code in zip(self.groups, self.project, self.group_codes, strict=True)
        ]
        x = torch.stack(tokens, 2).flatten(1, 2)
        mask = None if seen is None else seen.repeat_interleave(len(self.groups), 1)
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = torch.unflatten(self.norm(x), 1, (-1, len(self.groups)))
        return out


def _windows(x: Tensor, steps: int, side: int) -> Tensor:
    """(window, pixel * step, band) of (batch, step * band, y, x)."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, steps, channels // steps, height // side, side, width // side, side)
    return split.permute(0, 3, 5, 4, 6, 1, 2).reshape(-1, side * side * steps, channels // steps)


class Galileo(nn.Module):
    """Logits: the embedding of each pixel and a linear layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = GalileoEncoder(config)
        self.stride, self.radius = self.encoder.stride, self.encoder.radius
        self.head = nn.Conv2d(config.width, config.classes, 1)

    def forward(
        self,
        x: Float[Tensor, "batch channel y x"],
        looks: Bool[Tensor, "batch step y x"] | None = None,
        months: Int[Tensor, "batch step"] | None = None,
    ) -> Float[Tensor, "batch class y x"]:
        logits: Tensor = self.head(self.encoder(x, looks, months))
        return logits


build = Galileo
encoder = GalileoEncoder
