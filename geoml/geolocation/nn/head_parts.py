"""What heads of geolocation share: their base, standardised features, a small network, and buffers of cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.geolocation.density import cells, vmf
from geoml.geolocation.density.cells import Cells
from geoml.geolocation.density.density import Density
from geoml.geolocation.nn.sphere import log_vmf
from geoml.grid import sphere

Features = Float[Tensor, "batch features"]
Raw = Float[Tensor, "batch out"]
Xyz = Float[Tensor, "batch 3"]
"""Unit vectors of places."""
Scalar = Float[Tensor, ""]
Components = tuple[Float[Tensor, "batch k"], Float[Tensor, "... k 3"], Float[Tensor, "... k"]]
"""Log weights (B, K) that sum to 1, unit vectors (B, K, 3) or (K, 3), concentrations (B, K) or (K,)."""


@dataclass(frozen=True)
class FeatureConfig:
    """What every config of a head begins with: how many features a picture has."""

    features: int


@dataclass(frozen=True)
class HeadConfig(FeatureConfig):
    """What configs of learned heads begin with: width of the features, of the hidden layer (0: none), and dropout."""

    hidden: int = 512
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.features < 1 or self.hidden < 0 or not 0 <= self.dropout < 1:
            raise InputError(
                f"features {self.features}, hidden {self.hidden}, dropout {self.dropout}; "
                "expected at least one feature, hidden of at least 0, dropout in [0, 1)"
            )


@dataclass(frozen=True)
class CellsConfig(HeadConfig):
    """And those of heads with cells: ``most`` and ``least`` places of a cell, ``depth`` of the tree, and the least
    radius that a cell is taken to have. ``cells`` is how many there are; `start` sets it."""

    cells: int = 0
    most: int = 50
    least: int = 5
    depth: int = 10
    floor_km: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells < 0 or not 1 <= self.depth <= cells.DEEPEST or self.most < 1 or self.least < 1:
            raise InputError(
                f"cells {self.cells}, most {self.most}, least {self.least}, depth {self.depth}; "
                f"expected at least 0, 1, 1, 1, and a depth of at most {cells.DEEPEST}"
            )
        if not 0 < self.floor_km < np.inf:
            raise InputError(f"floor_km: {self.floor_km}; expected a positive number")


class Standardise(nn.Module):
    """(B, F) features to the same with mean 0 and deviation 1 over the training set; as they are before `measure`."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def measure(self, features: Features) -> None:
        """Take mean and deviation of (N, F); a feature that never changes keeps its scale."""
        std, mean = torch.std_mean(features.double(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, x: Features) -> Features:
        return (x - self.mean) / self.std


def network(config: HeadConfig, out: int) -> nn.Sequential:
    """(B, features) standardised to (B, out): a hidden layer with ReLU and dropout, or none."""
    if not config.hidden:
        return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.features, out))
    return nn.Sequential(
        nn.Linear(config.features, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, out),
    )


class DensityHead(nn.Module, ABC):
    """Features of pictures to a density over the sphere; `geoml.geolocation.heads` says what the methods do."""

    config: FeatureConfig
    standardise: Standardise

    @abstractmethod
    def start(self, features: Features, xyz: Xyz) -> None: ...

    @abstractmethod
    def loss(self, raw: Raw, xyz: Xyz) -> Scalar: ...

    @abstractmethod
    def components(self, raw: Raw) -> Components: ...

    def measure(self, features: Tensor, xyz: Tensor) -> None:
        """Standardise by (N, features). Raises InputError unless N >= 1 and these and (N, 3) places are finite."""
        width = self.config.features
        if features.ndim != 2 or features.shape[1] != width or xyz.shape != (len(features), 3) or not len(features):
            raise InputError(
                f"features {tuple(features.shape)}, xyz {tuple(xyz.shape)}; expected (N, {width}) and (N, 3)"
            )
        if not bool(torch.isfinite(features).all() and torch.isfinite(xyz).all()):
            raise InputError("features, xyz: values that are not finite")
        self.standardise.measure(features)


class NetworkHead(DensityHead):
    """A head whose raw output (B, ``out``) is that of one small network."""

    def __init__(self, config: HeadConfig, out: int) -> None:
        super().__init__()
        self.config = config
        self.standardise = Standardise(config.features)
        self.net = network(config, out)

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the raw output."""
        layer = self.net[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Features) -> Raw:
        raw: Tensor = self.net(self.standardise(x))
        return raw


class SharedConcentration(nn.Module):
    """One concentration for all pictures, learnt from the errors of a point without moving the point.

    Its log runs over some 20 while weights of layers move by less than 1, so it is kept in units of `UNIT`.
    """

    UNIT = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.log_kappa = nn.Parameter(torch.zeros(()))

    @property
    def kappa(self) -> Scalar:
        """From 0.001 (anywhere) to 1e8."""
        return (self.UNIT * self.log_kappa).clamp(-7.0, 18.4).exp()

    def start(self, point: Float[Tensor, " 3"], xyz: Xyz) -> None:
        """Set it to what holds 90 % of (N, 3) places around one point (3,)."""
        far = sphere.angles(point.double().cpu().numpy()[None], xyz.double().cpu().numpy())[0]
        radius = float(np.quantile(far, 0.9)) * sphere.EARTH_RADIUS_KM
        with torch.no_grad():
            self.log_kappa.fill_(float(np.log(max(float(vmf.concentration(max(radius, 1.0))), 0.01))) / self.UNIT)

    def loss(self, point: Xyz, xyz: Xyz) -> Scalar:
        """Negative log-likelihood, in nats, of (B, 3) places around (B, 3) points that get no gradient."""
        return -log_vmf(xyz, point.detach(), self.kappa).mean()

    def components(self, point: Xyz) -> Components:
        """One component around each of (B, 3) points."""
        return torch.zeros_like(point[:, :1]), point[:, None], self.kappa.expand(len(point), 1)


class CellBuffers(nn.Module):
    """K cells as buffers, for `Cells` that are known only after `fill`."""

    bounds: Tensor
    centre: Tensor
    radius: Tensor
    reach: Tensor
    count: Tensor
    parents: Tensor

    def __init__(self, count: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self._allocate(count)

    def _allocate(self, k: int) -> None:
        double = torch.float64
        self.register_buffer("bounds", torch.zeros(k, 4, dtype=double))
        self.register_buffer("centre", torch.tensor([[1.0, 0.0, 0.0]]).repeat(k, 1))
        self.register_buffer("radius", torch.ones(k))
        self.register_buffer("reach", torch.ones(k))
        self.register_buffer("count", torch.zeros(k, dtype=torch.int64))
        self.register_buffer("parents", torch.zeros(self.depth, k, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.centre)

    def fill(self, table: Cells) -> None:
        """Become these cells."""
        device = self.centre.device
        self._allocate(len(table))
        self.bounds.copy_(torch.from_numpy(table.bounds))
        self.centre.copy_(torch.from_numpy(table.xyz))
        self.radius.copy_(torch.from_numpy(table.radius))
        self.reach.copy_(torch.from_numpy(np.maximum(table.reach(), 1e-3)))
        self.count.copy_(torch.from_numpy(table.count))
        for row in range(self.depth):
            self.parents[row] = torch.from_numpy(table.parents(row + 1)[1])
        self.to(device)

    def cells(self) -> Cells:
        """The cells again. Raises InputError before `fill`."""
        lon, lat = sphere.to_lonlat(self.centre.double().cpu().numpy())
        count, radius = self.count.cpu().numpy(), self.radius.double().cpu().numpy()
        return cells.from_bounds(self.bounds.cpu().numpy(), lon, lat, count, radius)

    def kappa(self, floor_km: float) -> Float[Tensor, " cells"]:
        """(K,) concentrations whose 90 % caps have the radii of the cells, at least ``floor_km``."""
        radius = np.maximum(self.radius.double().cpu().numpy(), floor_km)
        kappa = np.clip(vmf.concentration(radius), 1e-3, 1e8)
        return torch.from_numpy(kappa).to(self.centre)

    def distances(self, xyz: Xyz) -> Float[Tensor, "batch cells"]:
        """(B, K) km from (B, 3) places to the centres; no gradient."""
        half = (torch.cdist(xyz.double(), self.centre.double()) / 2).clamp(0, 1)
        return (2 * sphere.EARTH_RADIUS_KM * half.asin()).to(self.centre.dtype)

    def assign(self, xyz: Xyz) -> Int[Tensor, " batch"]:
        """The cell that holds each place, or else that with the nearest centre."""
        return torch.cat([self._assign(part) for part in torch.split(xyz, 4096)])

    def _assign(self, xyz: Tensor) -> Tensor:
        x, y, z = xyz.double().unbind(-1)
        lon, lat = torch.rad2deg(torch.atan2(y, x))[:, None], torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))[:, None]
        lon = torch.where(lon >= 180, lon - 360, lon)
        w, s, e, n = self.bounds.T
        inside = (lon >= w) & (lon < e) & (lat >= s) & ((lat < n) | (n >= 90))
        cell: Tensor = inside.to(torch.uint8).argmax(1)
        outside = ~inside.any(1)
        cell[outside] = self.distances(xyz[outside]).argmin(1)
        return cell


def build_cells(config: CellsConfig, xyz: Xyz) -> Cells:
    """The quadtree of the places of a training set."""
    lon, lat = sphere.to_lonlat(xyz.double().cpu().numpy())
    return cells.build(lon, lat, config.most, min(config.least, len(lon)), config.depth)


def mixture_nll(components: Components, xyz: Xyz) -> Scalar:
    """Negative log-likelihood of places in nats per steradian."""
    weight, mu, kappa = components
    return -(weight + log_vmf(xyz[:, None], mu, kappa)).logsumexp(1).mean()


def unit(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """(..., n) to unit length; a gradient that stays finite near 0."""
    return F.normalize(x, dim=-1, eps=1e-6)


def density(components: Components) -> Density:
    """What a head's ``components`` say, as a `Density` of float64 arrays on the host."""
    weight, xyz, kappa = (v.detach().double().cpu().numpy() for v in components)
    return Density(np.exp(weight), xyz, kappa)
