"""MvMF: a mixture of von Mises-Fisher distributions that all pictures share, with weights of each picture.

Izbicki, Papalexakis, Tsotras: Exploiting the Earth's Spherical Geometry to Geolocate Images. ECML PKDD 2019,
https://www.cs.ucr.edu/~epapalex/papers/19-ECML-PKDD-GeolocateImages.pdf. As there: means start at the centres of
cells and move, concentrations are learnt, and the loss is the negative log-likelihood of the place. Different: cells
are an adaptive quadtree, and concentrations start from the radii of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from geoml.geolocation.density import cells as quadtree
from geoml.geolocation.nn.locating import CellBuffers, CellsConfig, Components, Standardise, checked, network, unit
from geoml.geolocation.nn.sphere import log_vmf
from geoml.grid import sphere

UNIMODAL = False
TINY: dict[str, object] = {"hidden": 32, "most": 20, "least": 2, "depth": 5}


@dataclass(frozen=True)
class Config(CellsConfig):
    """Arguments of `build`."""


class VmfMixture(nn.Module):
    """(B, features) to (B, K) logits of the shared components."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.standardise = Standardise(config.features)
        self.net = network(config, max(config.cells, 1))
        self.mu = nn.Parameter(torch.tensor([[1.0, 0.0, 0.0]]).repeat(config.cells, 1))
        self.log_kappa = nn.Parameter(torch.zeros(config.cells))

    def start(self, features: Tensor, xyz: Tensor) -> None:
        """A component for each cell of the places (N, 3)."""
        checked(features, xyz, self.config.features)
        lon, lat = sphere.to_lonlat(xyz.double().cpu().numpy())
        made = quadtree.build(lon, lat, self.config.most, min(self.config.least, len(lon)), self.config.depth)
        self.config = replace(self.config, cells=len(made))
        self.standardise.measure(features)
        buffers = CellBuffers(0, self.config.depth)
        buffers.fill(made)
        self.mu = nn.Parameter(buffers.centre.clone().to(features))
        self.log_kappa = nn.Parameter(buffers.kappa(self.config.floor_km).log().to(features))
        self.net = network(self.config, len(made)).to(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.standardise(x))  # type: ignore[no-any-return]

    def loss(self, raw: Tensor, xyz: Tensor) -> Tensor:
        """Negative log-likelihood in nats per steradian."""
        weight, mu, kappa = self.components(raw)
        return -(weight + log_vmf(xyz[:, None], mu, kappa)).logsumexp(1).mean()

    def components(self, raw: Tensor) -> Components:
        return raw.log_softmax(1), unit(self.mu), self.log_kappa.clamp(-7.0, 18.4).exp()


def build(config: Config) -> VmfMixture:
    """The head, randomly initialised."""
    return VmfMixture(config)
