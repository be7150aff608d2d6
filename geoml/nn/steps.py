"""Series of many steps as sequences of what is seen: gaps may differ from pixel to pixel, and are never zeros.

A *cell* is what a sequence has a look at or not: a step of a pixel, or a step of one of the pixels of a window. Seen
cells are packed to the front and sequences of about equal length go together, so that nothing is computed for a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from geoml.errors import InputError

TOKENS = 8192
"""Of one batch of sequences, so that memory does not grow with the scene and activations stay in the cache."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences of one length: their ``rows`` and the ``cells`` they keep; ``seen`` is None if all of them are.

    The last of a kind are filled up with copies of the last row to the size of the others, because a matrix product of
    another size may round otherwise; ``count`` rows are meant.
    """

    rows: Int[Tensor, " row"]
    cells: Int[Tensor, "row cell"]
    seen: Bool[Tensor, "row cell"] | None
    count: int


def packed(seen: Bool[Tensor, "row cell"], tokens: int, multiple: int = 1) -> Iterator[Packed]:
    """All rows with a seen cell, those of the same number of seen cells, rounded up to a multiple, together.

    ``tokens`` are those of one cell. Batches have about `TOKENS` and depend on the length alone, so that what is said
    of a row does not depend on the rows beside it.
    """
    lengths = seen.sum(1)
    lengths = (-(-lengths // multiple) * multiple).clamp(max=seen.shape[1])
    for length in torch.unique(lengths).tolist():
        if length == 0:
            continue
        rows = torch.nonzero(lengths == length)[:, 0]
        size = max(1, TOKENS // (length * tokens))
        for some in torch.split(rows, size):
            filled = torch.cat([some, some[-1:].expand(size - len(some))])
            order = torch.argsort(seen[filled].to(torch.int8), dim=1, descending=True, stable=True)[:, :length]
            known = seen[filled].gather(1, order)
            yield Packed(filled, order, None if bool(known.all()) else known, len(some))


def sequences(x: Shaped[Tensor, "batch channel y x"], steps: int) -> Shaped[Tensor, "pixel {steps} band"]:
    """All bands of the first step come first in the channels; pixels are in the order of batch, y, x."""
    found: Tensor = torch.unflatten(x, 1, (steps, -1)).permute(0, 3, 4, 1, 2).flatten(0, 2)
    return found


def filled(
    x: Float[Tensor, "batch channel y x"], looks: Bool[Tensor, "batch step y x"] | None, steps: int
) -> Float[Tensor, "batch channel y x"]:
    """Channels of all steps, those of a step without a look as the mean of the pixel's other steps, by band; 0 in a
    pixel without any."""
    if looks is None:
        return x
    values, seen = torch.unflatten(x, 1, (steps, -1)), looks[:, :, None]
    mean = torch.where(seen, values, 0.0).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
    return torch.where(seen, values, mean).flatten(1, 2)


def month_codes(width: int) -> Float[Tensor, "12 {width}"]:
    """Sine and cosine of the month of the year, each half of the width; month 0 is January."""
    angle = torch.arange(12, dtype=torch.float64) * (2 * math.pi / 12)
    return torch.stack([angle.sin(), angle.cos()], 1).repeat_interleave(width // 2, 1).float()


def on_sphere(place: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "pixel 3"]:
    """Unit vectors of longitude and latitude in degrees."""
    lon, lat = torch.deg2rad(place).movedim(1, -1).flatten(0, 2).unbind(1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)


def with_ndvi(values: Float[Tensor, "*any band"], pair: tuple[int, int] | None) -> Float[Tensor, "*any channel"]:
    """Reflectances, and behind them the NDVI of the bands ``pair`` (red, near infrared); 0 where their sum is not
    above 0."""
    if pair is None:
        return values
    red, nir = values[..., pair[0]], values[..., pair[1]]
    total = red + nir
    ratio = torch.where(total > 0, (nir - red) / torch.where(total > 0, total, 1.0), 0.0)
    return torch.cat([values, ratio[..., None]], -1)


def steps_of(channels: int, bands: int, most: int) -> int:
    """Steps in so many channels. Raises InputError if they do not divide, or are more than ``most``."""
    if channels % bands or channels // bands > most:
        raise InputError(f"channels: {channels}; expected {bands} bands of 1 to {most} steps")
    return channels // bands


@dataclass(frozen=True)
class TokenGroups:
    """Which bands share a token: positions of the bands of each group, and of red and near infrared for the NDVI, which
    is a group of its own."""

    bands: int
    groups: tuple[tuple[int, ...], ...]
    ndvi: tuple[int, int] | None

    def __post_init__(self) -> None:
        for name, places in (("groups", [p for group in self.groups for p in group]), ("ndvi", self.ndvi or ())):
            if any(not 0 <= p < self.bands for p in places):
                raise InputError(f"{name}: {places}; expected positions of {self.bands} bands, from 0")

    @property
    def channels(self) -> tuple[tuple[int, ...], ...]:
        """Of each group; all bands are one where nothing is said."""
        given = self.groups or (tuple(range(self.bands)),)
        return given if self.ndvi is None else (*given, (self.bands,))
