"""A unit vector on the sphere with the cosine loss: regression without seam and poles.

Directional statistics as a loss: Prokudin, Gehler, Nowozin: Deep Directional Statistics. ECCV 2018,
https://arxiv.org/abs/1805.03430. Half the squared chord to the true place is smooth everywhere. One answer for each
picture, so an ambiguous one gets a place between its possible ones; one concentration for all pictures is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoml.geolocation.nn.locating import Components, HeadConfig, Spread, Standardise, checked, network, unit
from geoml.geolocation.nn.sphere import chordal_loss
from geoml.grid import sphere

UNIMODAL = True
TINY: dict[str, object] = {"hidden": 32}


@dataclass(frozen=True)
class Config(HeadConfig):
    """Arguments of `build`."""


class UnitVector(nn.Module):
    """(B, features) to (B, 3) vectors, whose direction is the answer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.standardise = Standardise(config.features)
        self.net = network(config, 3)
        self.spread = Spread()

    def start(self, features: Tensor, xyz: Tensor) -> None:
        """Begin at the spherical mean of the places (N, 3)."""
        checked(features, xyz, self.config.features)
        self.standardise.measure(features)
        middle = torch.from_numpy(sphere.to_xyz(*sphere.mean(*sphere.to_lonlat(xyz.double().cpu().numpy()))))
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(middle)
        self.spread.start(middle, xyz)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.standardise(x))  # type: ignore[no-any-return]

    def loss(self, raw: Tensor, xyz: Tensor) -> Tensor:
        """Mean of 1 - cos of the angle, plus the nats of the spread."""
        point = unit(raw)
        return chordal_loss(point, xyz).mean() + self.spread.loss(point, xyz)

    def components(self, raw: Tensor) -> Components:
        return self.spread.components(unit(raw))


def build(config: Config) -> UnitVector:
    """The head, randomly initialised."""
    return UnitVector(config)
