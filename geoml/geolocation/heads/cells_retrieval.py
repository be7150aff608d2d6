"""Cells, then retrieval inside the best of them: coarse where nothing is similar, fine where something is.

Kordopatis-Zilos, Galopoulos, Papadopoulos, Kompatsiaris: Leveraging EfficientNet and Contrastive Learning for Accurate
Global-scale Location Estimation. ICMR 2021, https://arxiv.org/abs/2105.07645: search within the cell. Here several
cells are searched, a neighbour's weight is its similarity times the probability of its cell to a learnt power, and the
cells themselves keep a learnt share of the answer, so that the density has no holes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from geoml.errors import InputError
from geoml.geolocation.heads import cells, retrieval
from geoml.geolocation.nn.head_parts import Components, DensityHead, Features, Raw, Scalar, Xyz, mixture_nll

Part = TypeVar("Part", cells.Config, retrieval.Config)

UNIMODAL = False
TINY: dict[str, object] = {"hidden": 32, "most": 20, "least": 2, "depth": 5, "neighbours": 10, "best": 5}


@dataclass(frozen=True)
class Config(cells.Config):
    """Arguments of `build`: those of ``cells`` and ``retrieval``; how many of the ``best`` cells are searched; the
    share of the cells and the power of their probability at which learning starts."""

    gallery: int = 0
    neighbours: int = 20
    temperature: float = 0.05
    kernel_km: float = 200.0
    dims: int = 0
    best: int = 10
    share: float = 0.3
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.part(retrieval.Config)
        if self.best < 1 or not 0 < self.share < 1 or not 0 < self.power < float("inf"):
            raise InputError(
                f"best {self.best}, share {self.share}, power {self.power}; expected at least 1, in (0, 1), above 0"
            )

    def part(self, kind: type[Part]) -> Part:
        """The config of a part of this head."""
        return kind(**{name: value for name, value in asdict(self).items() if name in {f.name for f in fields(kind)}})


class CellsRetrieval(DensityHead):
    """(B, features) to (B, K + M), or (B, 3 K + M) with offsets: what the cells say, then cosines with the gallery."""

    config: Config
    cell: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.cells = cells.build(config.part(cells.Config))
        self.retrieval = retrieval.build(config.part(retrieval.Config))
        self.register_buffer("cell", torch.zeros(config.gallery, dtype=torch.int64))
        self.share = nn.Parameter(torch.tensor(config.share).logit())
        self.log_power = nn.Parameter(torch.tensor(config.power).log())

    def start(self, features: Features, xyz: Xyz) -> None:
        """Build the cells of the places and fill the gallery with the features."""
        self.cells.start(features, xyz)
        self.retrieval.start(features, xyz)
        self.register_buffer("cell", self.cells.cells.assign(xyz))
        self.config = replace(self.config, cells=self.cells.config.cells, gallery=len(features))

    def forward(self, x: Features) -> Raw:
        return torch.cat([self.cells(x), self.retrieval(x)], dim=1)

    def loss(self, raw: Raw, xyz: Xyz) -> Scalar:
        """That of the cells, plus the nats of the whole density in which the cells get no gradient and the picture
        itself is left out of the gallery."""
        cells_raw, cosine = self._split(raw)
        others = self.retrieval.others(cosine, xyz)
        return self.cells.loss(cells_raw, xyz) + mixture_nll(self._mixture(cells_raw.detach(), others), xyz)

    def components(self, raw: Raw) -> Components:
        return self._mixture(*self._split(raw))

    def similar(self, raw: Raw, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """As `geoml.geolocation.heads.retrieval.Retrieval.similar`, wherever they lie."""
        return self.retrieval.similar(self._split(raw)[1], count)

    def _split(self, raw: Raw) -> tuple[Float[Tensor, "batch cells"], Float[Tensor, "batch gallery"]]:
        split = raw.shape[1] - len(self.cell)
        return raw[:, :split], raw[:, split:]

    def _mixture(self, cells_raw: Raw, cosine: Float[Tensor, "batch gallery"]) -> Components:
        log_p, centre, cell_kappa = self.cells.components(cells_raw)
        least = log_p.topk(min(self.config.best, log_p.shape[1]), dim=1).values[:, -1:]
        prior = log_p.masked_fill(log_p < least, -30.0).clamp_min(-30.0)  # finite: the best may have few neighbours
        score = self.retrieval.score(cosine) + self.log_power.exp() * prior[:, self.cell]
        near, entry = self.retrieval.nearest(score)
        places = self.retrieval.places[entry]
        weight = torch.cat([near + F.logsigmoid(-self.share), log_p + F.logsigmoid(self.share)], dim=1)
        xyz = torch.cat([places, centre.expand(len(places), *centre.shape[-2:])], dim=1)
        kappa = torch.cat([self.retrieval.kappa.expand(near.shape), cell_kappa.expand(log_p.shape)], dim=1)
        return weight, xyz, kappa


def build(config: Config) -> CellsRetrieval:
    """The head, randomly initialised and with an empty gallery."""
    return CellsRetrieval(config)
