"""Many crops of a world picture at once, as tensors: for training, which cuts its pictures again in every epoch.

The same projection and the same levels as `geoml.geolocation.training.world.World.crop`, in float32: pixels differ by a
grey level here and there, and a crop costs a fraction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geoml.geolocation.training.world import View, World
from geoml.grid import sphere


class BatchCropper:
    """Crops (B, size, size, 3) uint8 pictures out of a world."""

    def __init__(self, world: World) -> None:
        self.world = world

    @cached_property
    def levels(self) -> list[Tensor]:
        """(3, H + 2, 2 H + 2) float32 of each level of the world."""
        return [torch.from_numpy(rgb).permute(2, 0, 1).float() for rgb in self.world.levels]

    def __call__(self, views: Sequence[View], size: int) -> NDArray[np.uint8]:
        grid = ground(views, size)
        pixel = 2.0 * math.pi * sphere.EARTH_RADIUS_KM / self.world.rgb.shape[1]
        ratio = np.array([max(v.width / size / pixel, 1.0) for v in views])
        level = np.clip(np.floor(np.log2(ratio) + 0.5).astype(int), 0, len(self.levels) - 1)
        out = np.zeros((len(views), size, size, 3), np.uint8)
        for k in np.unique(level):
            chosen = np.flatnonzero(level == k)
            out[chosen] = _sampled(self.levels[k], grid[torch.from_numpy(chosen)])
        return out


def ground(views: Sequence[View], size: int) -> Tensor:
    """(B, size, size, 2) float32 lon and lat, radians, of the pixels' centres of each view."""
    lon, lat, width, heading = torch.tensor([[v.lon, v.lat, v.width, v.heading] for v in views]).double().T
    x, y, turn = (torch.deg2rad(v) for v in (lon, lat, heading))
    up = torch.stack([y.cos() * x.cos(), y.cos() * x.sin(), y.sin()], -1)
    north = torch.stack([-y.sin() * x.cos(), -y.sin() * x.sin(), y.cos()], -1)
    east = torch.stack([-x.sin(), x.cos(), torch.zeros_like(x)], -1)
    upward = turn.cos()[:, None] * north + turn.sin()[:, None] * east  # up and right in the picture
    right = turn.cos()[:, None] * east - turn.sin()[:, None] * north
    frame = torch.stack([up, upward, right], 1).float()
    along = (torch.arange(size) + 0.5) / size - 0.5
    far = torch.hypot(along[None, :], along[:, None]).clamp_min(1e-9)
    angle = far * (width / sphere.EARTH_RADIUS_KM).float()[:, None, None]
    share = angle.sin() / far
    local = torch.stack([angle.cos(), -share * along[:, None], share * along[None, :]], -1)
    px, py, pz = (local @ frame[:, None]).unbind(-1)
    return torch.stack([torch.atan2(py, px), torch.atan2(pz, torch.hypot(px, py))], -1)


def _sampled(level: Tensor, grid: Tensor) -> NDArray[np.uint8]:
    """Bilinear; the level has one more row and column on every side."""
    height, width = level.shape[1] - 2, level.shape[2] - 2
    scale = torch.tensor([width / (width + 2) / math.pi, -2.0 * height / (height + 2) / math.pi])
    rows = (grid * scale).flatten(0, 1)[None]
    rgb = F.grid_sample(level[None], rows, mode="bilinear", padding_mode="border", align_corners=False)[0]
    shape = (3, *grid.shape[:3])
    return np.asarray(rgb.round().to(torch.uint8).view(shape).permute(1, 2, 3, 0).numpy(), np.uint8)
