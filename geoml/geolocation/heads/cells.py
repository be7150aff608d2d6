"""Adaptive cells: which box of a quadtree, coarse to fine, with labels that know distances and a place in the box.

Cells: PlaNet, https://arxiv.org/abs/1602.05314. Labels smoothed by distance: PIGEON, https://arxiv.org/abs/2307.05845.
Hierarchy by summed probabilities and places within cells, bounded by tanh: OpenStreetView-5M, section 4,
https://arxiv.org/abs/2404.18873. A component for each cell: around the mean of its places, as wide as they are.

The place in a cell is east and north of its mean in the tangent plane, in units of the way to the farthest corner, so
that poles and the antimeridian are like any place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geoml.errors import InputError
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
    network,
    unit,
)
from geoml.geolocation.nn.sphere import smoothed_labels
from geoml.grid import sphere

UNIMODAL = False
TINY: dict[str, object] = {"hidden": 32, "most": 20, "least": 2, "depth": 5, "offset": True}


@dataclass(frozen=True)
class Config(CellsConfig):
    """Arguments of `build`: ``tau_km`` of the labels (0: only the own cell), ``levels`` of the hierarchy above the
    cells that get a loss too (0: none), ``offset``: whether a place in each cell is learnt."""

    tau_km: float = 75.0
    levels: int = 0
    offset: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tau_km < float("inf") or self.levels < 0:
            raise InputError(f"tau_km {self.tau_km}, levels {self.levels}; expected at least 0")


class CellsHead(NetworkHead):
    """(B, features) to (B, K) logits, or to (B, 3 K): logits, then east and north of each cell."""

    config: Config
    kappa: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config, max(config.cells, 1) * (3 if config.offset else 1))
        self.cells = CellBuffers(config.cells, config.depth)
        self.register_buffer("kappa", torch.ones(config.cells))

    def start(self, features: Features, xyz: Xyz) -> None:
        """Build the cells of the places and an output for each; all offsets begin at 0."""
        self.measure(features, xyz)
        table = build_cells(self.config, xyz)
        self.config = replace(self.config, cells=len(table))
        self.cells.fill(table)
        self.register_buffer("kappa", self.cells.kappa(self.config.floor_km))
        k = len(table)
        self.net = network(self.config, k * (3 if self.config.offset else 1)).to(features)
        if self.config.offset:
            with torch.no_grad():
                self.last.weight[k:].zero_()
                self.last.bias[k:].zero_()

    def log_weight(self, raw: Raw) -> Float[Tensor, "batch cells"]:
        """Log probabilities of the cells."""
        return raw[:, : len(self.kappa)].log_softmax(1)

    def loss(self, raw: Raw, xyz: Xyz) -> Scalar:
        """Cross-entropy in nats, the mean over levels; plus the squared error in the own cell, in reaches."""
        log_p = self.log_weight(raw)
        own = self.cells.assign(xyz)
        if self.config.tau_km > 0:
            label = smoothed_labels(self.cells.distances(xyz), self.config.tau_km)
        else:
            label = nn.functional.one_hot(own, log_p.shape[1]).to(log_p)
        losses = [-(label * log_p).sum(1).mean()]
        for parent in self._parents():
            empty = log_p.new_zeros(len(log_p), int(parent.max()) + 1)
            p, target = empty.index_add(1, parent, log_p.exp()), empty.index_add(1, parent, label)
            losses.append(-(target * p.clamp_min(1e-12).log()).sum(1).mean())
        total = torch.stack(losses).mean()
        if self.config.offset:
            error = self._offset(raw)[torch.arange(len(own)), own] - self._offset_of(own, xyz)
            total = total + error.square().sum(1).mean()
        return total

    def components(self, raw: Raw) -> Components:
        centre = self._moved(self._offset(raw)) if self.config.offset else self.cells.centre
        return self.log_weight(raw), centre, self.kappa

    def _parents(self) -> list[Tensor]:
        """(K,) parents at the finest ``levels`` levels at which several cells share one."""
        rows = [row for row in self.cells.parents if 0 < int(row.max()) + 1 < len(row)]
        return rows[len(rows) - self.config.levels :] if self.config.levels < len(rows) else rows

    def _offset(self, raw: Raw) -> Float[Tensor, "batch cells 2"]:
        """East and north in reaches, in (-1, 1)."""
        k = len(self.kappa)
        return torch.stack([raw[:, k : 2 * k], raw[:, 2 * k :]], dim=-1).tanh()

    def _axes(self) -> tuple[Float[Tensor, "cells 3"], Float[Tensor, "cells 3"]]:
        """Directions of the tangent plane; at a pole those of longitude 0."""
        centre = self.cells.centre
        up = torch.tensor([0.0, 0.0, 1.0]).to(centre).expand_as(centre)
        flat = torch.tensor([0.0, 1.0, 0.0]).to(centre)
        across = torch.linalg.cross(up, centre)
        east = torch.where(across.norm(dim=1, keepdim=True) > 1e-6, unit(across), flat)
        return east, torch.linalg.cross(centre, east)

    def _moved(self, offset: Float[Tensor, "batch cells 2"]) -> Float[Tensor, "batch cells 3"]:
        """Places at offsets from the centres."""
        east, north = self._axes()
        step = offset * (self.cells.reach / sphere.EARTH_RADIUS_KM)[:, None]
        angle = (step.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        tangent = step[..., :1] * east + step[..., 1:] * north
        return unit(angle.cos() * self.cells.centre + torch.sinc(angle / torch.pi) * tangent)

    def _offset_of(self, own: Int[Tensor, " batch"], xyz: Xyz) -> Float[Tensor, "batch 2"]:
        """Offsets of places from the centres of their ``own`` cells, within [-1, 1]."""
        east, north = (axis[own] for axis in self._axes())
        flat = torch.stack([(xyz * east).sum(1), (xyz * north).sum(1)], dim=1)
        sine = flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
        angle: Tensor = torch.atan2(sine, (xyz * self.cells.centre[own]).sum(1, keepdim=True))
        reach = (self.cells.reach[own] / sphere.EARTH_RADIUS_KM)[:, None]
        inside: Tensor = flat / sine * angle / reach
        return inside.clamp(-1, 1)


def build(config: Config) -> CellsHead:
    """The head, randomly initialised."""
    return CellsHead(config)
