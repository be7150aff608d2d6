"""Two neurons for latitude and longitude: the plain regression that other heads are measured against.

With the haversine distance as its loss, as GeoVision describes; or the squared error of standardised degrees. The
weakest head of OpenStreetView-5M's ablation, section 4, https://arxiv.org/abs/2404.18873: the answer to an ambiguous
picture is a place between its possible ones, and longitudes have a seam at 180 degrees that the outputs cannot cross.

With ``loss: haversine`` the outputs are bounded, 180 tanh and 90 tanh, and start at the spherical mean of the training
places. With ``loss: mse`` they are linear and in deviations from the mean degrees. One concentration for all pictures
says how far off answers are; it is learnt too and moves no answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.geolocation.nn.head_parts import (
    Components,
    Features,
    HeadConfig,
    NetworkHead,
    Raw,
    Scalar,
    SharedConcentration,
    Xyz,
)
from geoml.geolocation.nn.sphere import haversine, to_xyz
from geoml.grid import sphere

UNIMODAL = True
TINY: dict[str, object] = {"hidden": 32}


@dataclass(frozen=True)
class Config(HeadConfig):
    """Arguments of `build`."""

    loss: Literal["haversine", "mse"] = "haversine"


class LatLon(NetworkHead):
    """(B, features) to (B, 2) outputs, of which `place` makes degrees."""

    config: Config
    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config, 2)
        self.spread = SharedConcentration()
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("std", torch.tensor([180.0, 90.0]))

    def start(self, features: Features, xyz: Xyz) -> None:
        """Begin at the spherical mean of the places."""
        self.measure(features, xyz)
        lon, lat = sphere.to_lonlat(xyz.double().cpu().numpy())
        degrees = torch.tensor([list(lon), list(lat)], dtype=torch.float64)
        middle = torch.tensor(sphere.mean(lon, lat), dtype=torch.float64)
        if self.config.loss == "mse":
            self.mean.copy_(degrees.mean(1))
            self.std.copy_(degrees.std(1, correction=0).clamp_min(1e-3))
        else:
            with torch.no_grad():  # inside of where tanh still has a slope
                bounds = torch.tensor([180.0, 90.0], dtype=torch.float64)
                self.last.bias.copy_(torch.atanh((middle / bounds).clamp(-0.95, 0.95)))
                self.last.weight.mul_(0.1)
        self.spread.start(to_xyz(*middle), xyz)

    def place(self, raw: Float[Tensor, "batch 2"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Lon and lat in degrees."""
        if self.config.loss == "mse":
            lon, lat = (self.mean + self.std * raw).unbind(-1)
            return lon, lat.clamp(-90, 90)
        return 180 * raw[:, 0].tanh(), 90 * raw[:, 1].tanh()

    def loss(self, raw: Raw, xyz: Xyz) -> Scalar:
        """Mean distance in 1000 km, or half the squared error in deviations; plus the nats of the concentration."""
        lon, lat = torch.rad2deg(torch.atan2(xyz[:, 1], xyz[:, 0])), torch.rad2deg(xyz[:, 2].clamp(-1, 1).asin())
        own = self.place(raw)
        if self.config.loss == "mse":
            error = (raw - (torch.stack([lon, lat], 1) - self.mean) / self.std).square().mean() / 2
        else:
            error = haversine(*own, lon, lat).mean() / 1000
        return error + self.spread.loss(to_xyz(*own), xyz)

    def components(self, raw: Float[Tensor, "batch 2"]) -> Components:
        return self.spread.components(to_xyz(*self.place(raw)))


def build(config: Config) -> LatLon:
    """The head, randomly initialised."""
    return LatLon(config)
