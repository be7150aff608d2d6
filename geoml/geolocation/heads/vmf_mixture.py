"""MvMF: a mixture of von Mises-Fisher distributions that all pictures share, with weights of each picture.

Izbicki, Papalexakis, Tsotras: Exploiting the Earth's Spherical Geometry to Geolocate Images. ECML PKDD 2019,
https://www.cs.ucr.edu/~epapalex/papers/19-ECML-PKDD-GeolocateImages.pdf. As there: means start at the centres of
cells and move, concentrations are learnt, and the loss is the negative log-likelihood of the place. Different: cells
are an adaptive quadtree, and concentrations start from the radii of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from geoml.geolocation.nn.head_parts import (
    CellBuffers,
    CellsConfig,
    Components,
    Features,
    NetworkHead,
    Raw,
    Scalar,
    Xyz,
    build_cells,
    mixture_nll,
    network,
    unit,
)

UNIMODAL = False
TINY: dict[str, object] = {"hidden": 32, "most": 20, "least": 2, "depth": 5}


@dataclass(frozen=True)
class Config(CellsConfig):
    """Arguments of `build`."""


class VmfMixture(NetworkHead):
    """(B, features) to (B, K) logits of the shared components."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config, max(config.cells, 1))
        self.mu = nn.Parameter(torch.tensor([[1.0, 0.0, 0.0]]).repeat(config.cells, 1))
        self.log_kappa = nn.Parameter(torch.zeros(config.cells))

    def start(self, features: Features, xyz: Xyz) -> None:
        """A component for each cell of the places."""
        self.measure(features, xyz)
        table = build_cells(self.config, xyz)
        self.config = replace(self.config, cells=len(table))
        buffers = CellBuffers(0, self.config.depth)
        buffers.fill(table)
        self.mu = nn.Parameter(buffers.centre.clone().to(features))
        self.log_kappa = nn.Parameter(buffers.kappa(self.config.floor_km).log().to(features))
        self.net = network(self.config, len(table)).to(features)

    def loss(self, raw: Raw, xyz: Xyz) -> Scalar:
        """Negative log-likelihood in nats per steradian."""
        return mixture_nll(self.components(raw), xyz)

    def components(self, raw: Raw) -> Components:
        return raw.log_softmax(1), unit(self.mu), self.log_kappa.clamp(-7.0, 18.4).exp()


def build(config: Config) -> VmfMixture:
    """The head, randomly initialised."""
    return VmfMixture(config)
