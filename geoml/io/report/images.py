"""The pictures of a report: arrays of stored values in, PNG as data URIs out, the same bytes for the same pixels."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]

GREY = (208, 212, 218, 255)
"""Inside the region, but nothing is known."""
HATCH = ((185, 28, 28, 255), (254, 226, 226, 255))
"""Blocks that failed."""
CLEAR = (0, 0, 0, 0)
# https://bids.github.io/colormap/, at nine points; dark is unsure
VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"]


def rgb(color: str) -> tuple[int, int, int]:
    """``#rrggbb`` as numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def ramp(positions: NDArray[np.floating]) -> Bytes:
    """(n, 4) RGBA colours of positions 0..1 on the scale of colours; beyond the ends they stay the same."""
    stops = np.array([rgb(c) for c in VIRIDIS], float)
    at = np.linspace(0, 1, len(stops))
    channels = [np.interp(positions, at, stops[:, k]) for k in range(3)]
    return np.stack([*channels, np.full(len(positions), 255.0)], axis=-1).round().astype(np.uint8)


def gradient() -> str:
    """The same colours as CSS, from left to right."""
    return f"linear-gradient(to right, {', '.join(VIRIDIS)})"


def class_colours(colours: Mapping[int, str], nodata: int) -> Bytes:
    """(256, 4) colour of each class value; values that no class has are black, so that they are seen."""
    table = np.tile(np.array([0, 0, 0, 255], np.uint8), (256, 1))
    for value, color in colours.items():
        table[value] = (*rgb(color), 255)
    table[nodata] = CLEAR
    return table


def quantity_colours(low: float, high: float, nodata: int = 255) -> Bytes:
    """(256, 4) colours of stored values, from ``low`` to ``high`` along the scale."""
    table = ramp((np.arange(256) - low) / max(high - low, 1e-9))
    table[nodata] = CLEAR
    return table


def shade_gaps(picture: Bytes, region: NDArray[np.bool_], failed: NDArray[np.bool_]) -> Bytes:
    """(y, x, 4) RGBA with grey where the region has no colour, and stripes over failed blocks."""
    out = picture.copy()
    empty = out[..., 3] == 0
    out[empty] = CLEAR
    out[empty & region] = GREY
    y, x = np.ogrid[: out.shape[0], : out.shape[1]]
    width = max(3, max(out.shape[:2]) // 120)  # to be seen at any size
    stripe = (x + y) % (3 * width) < width
    out[empty & failed & stripe], out[empty & failed & ~stripe] = HATCH
    return out


def laid_over(picture: Bytes, image: Bytes) -> Bytes:
    """(y, x, 4) RGBA of a picture, with a paled image where it is clear."""
    out = image.copy()
    out[..., :3] = 255 - (255 - image[..., :3].astype(np.uint16)) * 3 // 5
    drawn = picture[..., 3] > 0
    out[drawn] = picture[drawn]
    return out


def png(picture: Bytes) -> str:
    """A (y, x, 4) picture as ``data:image/png;base64,…``: with a colour table where 256 colours are enough."""
    image = _indexed(picture) or Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _indexed(picture: Bytes) -> Image.Image | None:
    packed = np.ascontiguousarray(picture).view(np.uint32)[..., 0]
    some = packed.ravel()[:: max(1, packed.size // 10_000)]
    if len(np.unique(some)) > 256:
        return None
    import pandas as pd  # which commands that only look do without

    index, colours = pd.factorize(packed.ravel(), sort=True)  # as np.unique, which sorts every pixel
    if len(colours) > 256:
        return None
    table = colours.view(np.uint8).reshape(-1, 4)
    image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8))
    image.putpalette(np.ascontiguousarray(table[:, :3]).tobytes(), "RGB")
    image.info["transparency"] = table[:, 3].tobytes()
    return image
