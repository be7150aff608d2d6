"""A unit vector on the sphere with the cosine loss: regression without seam and poles.

Directional statistics as a loss: Prokudin, Gehler, Nowozin: Deep Directional Statistics. ECCV 2018,
https://arxiv.org/abs/1805.03430. Half the squared chord to the true place is smooth everywhere. One answer for each
picture, so an ambiguous one gets a place between its possible ones; one concentration for all pictures is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from geoml.geolocation.nn.head_parts import (
    Components,
    Features,
    HeadConfig,
    NetworkHead,
    Scalar,
    SharedConcentration,
    Xyz,
    unit,
)
from geoml.geolocation.nn.sphere import chordal_loss
from geoml.grid import sphere

UNIMODAL = True
TINY: dict[str, object] = {"hidden": 32}


@dataclass(frozen=True)
class Config(HeadConfig):
    """Arguments of `build`."""


class UnitVector(NetworkHead):
    """(B, features) to (B, 3) vectors, whose direction is the answer."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, 3)
        self.spread = SharedConcentration()

    def start(self, features: Features, xyz: Xyz) -> None:
        """Begin at the spherical mean of the places."""
        self.measure(features, xyz)
        middle = torch.from_numpy(sphere.to_xyz(*sphere.mean(*sphere.to_lonlat(xyz.double().cpu().numpy()))))
        with torch.no_grad():
            self.last.bias.copy_(middle)
        self.spread.start(middle, xyz)

    def loss(self, raw: Xyz, xyz: Xyz) -> Scalar:
        """Mean of 1 - cos of the angle, plus the nats of the concentration."""
        point = unit(raw)
        return chordal_loss(point, xyz).mean() + self.spread.loss(point, xyz)

    def components(self, raw: Xyz) -> Components:
        return self.spread.components(unit(raw))


def build(config: Config) -> UnitVector:
    """The head, randomly initialised."""
    return UnitVector(config)
