"""Embeddings of every pixel of a series: checked, in pieces of bounded memory, and the same however they are cut.

A piece is a part of one lattice of the plane, so that windows of an encoder that sees more than a pixel lie where they
would lie in the whole. Inside it `geoml.nn.steps` packs what is seen into batches of one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from geoml.cube.series import Bbox, Series
from geoml.engine.packages.encoder import EncoderPackage
from geoml.engine.pixels import Pixels
from geoml.errors import InputError, ModelError
from geoml.grid.plane import Window
from geoml.nn.context import Context, asked

SIDE = 128
"""Pixels of a side of a piece."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """``vectors`` (width, y, x) float32, NaN where ``valid`` (y, x) is False: nothing was seen there. ``doubt`` is what
    speaks against them without being sure, "" for nothing."""

    vectors: NDArray[np.float32]
    valid: NDArray[np.bool_]
    doubt: str = ""


def series_of(pixels: Pixels, bands: tuple[str, ...], level: str | None = None) -> Series:
    """What the input `series` read as physical values. Raises InputError for pixels of another input."""
    if pixels.looks is None or not pixels.months:
        raise InputError("looks: not known of these pixels; expected those that the input 'series' reads")
    values = pixels.physical().reshape(len(pixels.looks), len(bands), *pixels.count.shape)
    known = level if level in ("L1C", "L2A") else None
    place = pixels.place() if pixels.plane is not None else None
    return Series(bands, values, pixels.looks, pixels.months, place, known)  # type: ignore[arg-type]


class PixelEmbedder:
    """An encoder, ready to run on the CPU in float32.

    Everything that is asked of a series is checked by `embed` before the first piece is computed.
    """

    def __init__(self, package: EncoderPackage) -> None:
        self.card, self.module = package.card, package.module.eval()
        self.asks = asked(self.module)
        self.stride: int = self.module.stride  # type: ignore[assignment]

    def check(self, series: Series, bbox: Bbox | None = None) -> str:
        """What speaks against a series without being sure, "" for nothing.

        Raises InputError for a band or a place that is missing, for too many steps and as `Series.check`, which raises
        ModelError for what is in another unit or order than the encoder knows.
        """
        card = self.card
        if len(series.months) > card.steps:
            raise InputError(f"steps: {len(series.months)} given; {card.name} takes at most {card.steps}")
        if "place" in self.asks and series.place is None:
            raise InputError(f"place: not given; {card.name} asks for longitude and latitude of each pixel")
        return series.take([b.name for b in card.bands]).check(card.profile, bbox, card.level)

    def embed(self, series: Series, bbox: Bbox | None = None, origin: tuple[int, int] = (0, 0)) -> Embedding:
        """Embeddings of a checked series; ``bbox`` (W S E N) is what was asked for.

        ``origin`` (y, x) is where its first pixel lies in the plane. An encoder that sees windows sees of a window at
        the edge only what is given, so give whole ones: multiples of `stride`.

        Raises InputError and ModelError as `check`, and ModelError if the encoder's output is not finite.
        """
        doubt = self.check(series, bbox)
        shape = series.looks.shape[1:]
        valid = np.logical_or.reduce(series.looks)
        vectors = np.full((self.card.width, *shape), np.nan, np.float32)
        for part, found in self.pieces(series, origin):
            here = (..., *part.slices(Window(0, 0, *shape)))
            np.copyto(vectors[here], found, where=valid[here[1:]])
        return Embedding(vectors, valid, doubt)

    @torch.inference_mode()
    def pieces(self, series: Series, origin: tuple[int, int] = (0, 0)) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Windows of the series with (width, y, x) embeddings, 0 where nothing is seen; nothing is checked."""
        height, width = series.looks.shape[1:]
        series = series.take([b.name for b in self.card.bands])
        whole = Window(origin[0], origin[1], origin[0] + height, origin[1] + width)
        for part in _lattice(whole, SIDE // self.stride * self.stride):
            cut = part.intersect(whole)
            grown = _on_stride(cut, self.stride)  # whole windows, of which what is not given is not seen
            here = cut.slices(grown)
            rows, cols = cut.slices(whole)
            found = self._forward(series, (rows, cols), grown.shape, here)
            if not np.isfinite(found).all():
                raise ModelError(f"{self.card.name}: the output is not finite")
            top, left = cut.y0 - origin[0], cut.x0 - origin[1]
            yield Window(top, left, top + cut.shape[0], left + cut.shape[1]), found

    def _forward(
        self, series: Series, part: tuple[slice, slice], shape: tuple[int, int], here: tuple[slice, slice]
    ) -> NDArray[np.float32]:
        looks = np.zeros((len(series.months), *shape), np.bool_)
        looks[:, *here] = series.looks[:, *part]
        values = np.zeros((len(series.months), len(series.bands), *shape), np.float32)
        seen = looks[:, None][:, :, *here]
        mean = np.array([b.mean for b in self.card.bands], np.float32)[None, :, None, None]
        std = np.array([b.std for b in self.card.bands], np.float32)[None, :, None, None]
        np.copyto(values[:, :, *here], (series.values[:, :, *part] - mean) / std, where=seen)
        context: dict[str, torch.Tensor] = {
            "looks": torch.from_numpy(looks)[None],
            "months": torch.tensor([series.months], dtype=torch.int64),
        }
        if series.place is not None:
            place = np.zeros((2, *shape), np.float32)
            place[:, *here] = series.place[:, *part]
            context["place"] = torch.from_numpy(place)[None]
        given: Context = MappingProxyType({k: v for k, v in context.items() if k in self.asks})
        found = self.module(torch.from_numpy(values).flatten(0, 1)[None], **given)[0]
        out: NDArray[np.float32] = found[:, *here].numpy()
        return out


def _lattice(whole: Window, side: int) -> Iterator[Window]:
    """Squares of a lattice from the origin of the plane that touch a window, from the top left."""
    for y in range(whole.y0 // side * side, whole.y1, side):
        for x in range(whole.x0 // side * side, whole.x1, side):
            yield Window(y, x, y + side, x + side)


def _on_stride(window: Window, stride: int) -> Window:
    return Window(
        window.y0 // stride * stride,
        window.x0 // stride * stride,
        -(-window.y1 // stride) * stride,
        -(-window.x1 // stride) * stride,
    )
