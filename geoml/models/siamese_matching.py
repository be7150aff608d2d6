"""Similarity of pixels in two views: features of a small Siamese network, compared by their cosine.

Zbontar and LeCun 2016, https://arxiv.org/abs/1510.05970 (the fast architecture of MC-CNN), trained over all disparities
of a row at once as in Luo, Schwing and Urtasun 2016 (https://doi.org/10.1109/CVPR.2016.614). Its costs replace those of
`geoml.cube.stereo.census` in semi-global matching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.cube.stereo.census import blinded, census_costs
from geoml.cube.stereo.sgm import MAX_COST
from geoml.cube.stereo.tile import TileViews
from geoml.errors import InputError, ModelError

TASKS = ()
TINY: dict[str, object] = {"layers": 2, "width": 8}

COLUMNS = 64
"""Pixels of a row that are compared at once with all that they may match: their products are one small matrix."""


@dataclass(frozen=True)
class Config:
    """``layers`` convolutions of 3 x 3 with ``width`` features: a pixel is judged by what lies ``layers`` around it.

    Raises InputError for others than 1 to 8 and 1 to 256.
    """

    layers: int = 4
    width: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.layers <= 8 or not 1 <= self.width <= 256:
            raise InputError(f"layers: {self.layers}, width: {self.width}; expected 1 to 8 and 1 to 256")


class SiameseMatching(nn.Module):
    """Features of length one of a picture of one band, normalised to mean 0 and deviation 1."""

    stride = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        parts: list[nn.Module] = []
        for k in range(config.layers):
            parts += [nn.Conv2d(1 if k == 0 else config.width, config.width, 3), nn.ReLU()]
        self.conv_blocks = nn.Sequential(*parts[:-1])

    def forward(self, x: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch width y x"]:
        """Of every pixel; beyond the edge the last pixel is repeated."""
        around = (self.config.layers,) * 4
        found = self.conv_blocks(nn.functional.pad(x, around, mode="replicate"))
        return nn.functional.normalize(found, dim=1)


build = SiameseMatching


def cosines(
    left: Float[Tensor, "y x width"], right: Float[Tensor, "y far width"], depth: int
) -> Float[Tensor, "y x depth"]:
    """Of each pixel and what it may match: index k of column x is column ``x + depth - 1 - k`` of ``right``."""
    height, columns, _ = left.shape
    parts = []
    for start in range(0, columns, COLUMNS):
        stop = min(start + COLUMNS, columns)
        far = right[:, start : stop + depth - 1]
        products = (left[:, start:stop] @ far.transpose(1, 2)).contiguous()
        wide = products.shape[2]
        # the diagonals: each pixel of the piece begins one column further
        diagonal = products.as_strided((height, stop - start, depth), (products.stride(0), wide + 1, 1))
        parts.append(diagonal.flip(2))
    return torch.cat(parts, 1)


def normalised(picture: NDArray[np.float32], known: NDArray[np.bool_]) -> Float[Tensor, "1 1 y x"]:
    """(1, 1, y, x) float32 of (y, x): mean 0 and deviation 1 of what is known, 0 elsewhere."""
    values = picture[known]
    mean, deviation = (float(values.mean()), float(values.std())) if values.size else (0.0, 1.0)
    scaled = np.where(known, (picture - mean) / max(deviation, 1e-6), 0)
    return torch.from_numpy(scaled.astype(np.float32))[None, None]


@dataclass(frozen=True, eq=False)
class NetworkCosts:
    """`geoml.cube.stereo.census.Costs` of a network and of the census, halves of both: on made pairs that is better on
    planes than either alone, since a network looks further and a census more closely."""

    network: SiameseMatching

    def __call__(self, views: TileViews, depth: int) -> NDArray[np.uint8]:
        """(y, disparity, x). Raises ModelError for features that are not finite, MissingExtra."""
        out = census_costs(views, depth)
        out += self.alone(views, depth) + np.uint8(1)
        out >>= 1
        return out

    @torch.inference_mode()
    def alone(self, views: TileViews, depth: int) -> NDArray[np.uint8]:
        """Of the network: 0 where features are the same, the largest where they are at right angles or beyond."""
        left, right = (
            self.network(normalised(p, k))[0].permute(1, 2, 0).contiguous()
            for p, k in ((views.left, views.left_known), (views.right, views.right_known))
        )
        height, width = views.left.shape
        out = np.empty((height, depth, width), np.uint8)
        rows = max(1, 2**22 // (width * depth))
        for top in range(0, height, rows):
            part = cosines(left[top : top + rows], right[top : top + rows], depth)
            if not bool(torch.isfinite(part).all()):
                raise ModelError("matching: the features of the network are not finite")
            cost = ((1 - part) * MAX_COST).round_().clamp_(0, MAX_COST).to(torch.uint8)
            out[top : top + rows] = cost.permute(0, 2, 1).numpy()
        return blinded(out, views)


def of_mccnn(state: Mapping[str, Any]) -> SiameseMatching:
    """The network with the weights of ``mccnn`` 1.4 (CNES, Apache-2.0), its fast variant: five layers of 64.

    ``state`` is what ``torch.load(FILE, weights_only=True)`` gives. Raises ModelError for other weights.
    """
    weights = state.get("model", state) if isinstance(state, Mapping) else {}
    network = SiameseMatching(Config(layers=5, width=64))
    try:
        network.load_state_dict(dict(weights))
    except (RuntimeError, TypeError, ValueError, AttributeError) as err:
        raise ModelError(f"matching: not the weights of mccnn's fast network ({str(err)[:200]})") from err
    return network.eval()
