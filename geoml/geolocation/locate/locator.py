"""Locators: backbone, head and calibration in one folder, read and written as every model package.

``model.safetensors`` holds the tensors of ``backbone.…``, ``head.…`` and, where the locator learnt what it is not for,
``domain.…``, in half precision or in 8 bits where the recipe says so.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml.engine.packages import cards, weights
from geoml.errors import InputError, ModelError
from geoml.geolocation import heads
from geoml.geolocation.cards.locator import LocatorCard
from geoml.geolocation.density.cells import Cells
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate.features import Extractor
from geoml.geolocation.nn import backbones, domains, head_parts, places, stages
from geoml.geolocation.nn.backbones import Backbone
from geoml.geolocation.nn.domains import DomainHead
from geoml.geolocation.nn.head_parts import DensityHead
from geoml.grid import sphere
from geoml.nn.weights import precision
from geoml.texts import listed

Floats = NDArray[np.float64]
M = TypeVar("M", bound=nn.Module)
GALLERY = "gallery"
"""In half precision a gallery is kept in 8 bits with a scale for each row: cosines move by less than 0.01."""
ROWS = 512
"""Pictures for which a head answers at once."""


class Neighbour(NamedTuple):
    """A picture of the gallery: its number in it, the cosine, and its place in degrees."""

    entry: int
    score: float
    lon: float
    lat: float


@runtime_checkable
class GalleryHead(Protocol):
    """A head that answers with pictures of its gallery."""

    def similar(self, raw: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B, count) cosines, entries of the gallery, and (B, count, 3) places as unit vectors."""
        ...


@dataclass(frozen=True)
class Locator:
    """A loaded locator; `extractor` gives the features that `locate` takes."""

    backbone: Backbone
    head: DensityHead
    card: LocatorCard
    path: Path | None = None
    domain: DomainHead | None = None

    @cached_property
    def extractor(self) -> Extractor:
        """Pictures (B, size, size, 3) uint8 to features (B, F), by the back end of the settings."""
        return Extractor(self.backbone, self.card.size, choose=True)

    @property
    def digested(self) -> dict[str, Any]:
        """The parts of the card that change an answer, for digests."""
        return self.card.model_dump(mode="json", include={"calibration", "domain", "width_km"})

    def locate(self, features: NDArray[np.float32]) -> Density:
        """The calibrated density of (N, F) features. Raises InputError for others."""
        c = self.card.calibration
        return head_density(self.head, features).tempered(c.temperature, c.spread)

    def confidence(self, density: Density) -> Floats:
        """(N,) mass within the card's ``within_km`` of the mode: what the threshold of abstention is about."""
        return density.within(*density.mode(), self.card.calibration.within_km)

    def out_of_domain(self, features: NDArray[np.float32]) -> list[str | None]:
        """What each of (N, F) pictures seems to be where the locator is not for it; None for those that it is for.

        All None for a locator that has not learnt what it is not for.
        """
        limit = self.card.domain
        if self.domain is None or limit is None:
            return [None] * len(features)
        return [
            f"like {kind}, which the locator is not for ({score:.1f}, {limit.limit:.1f} is asked by the card)"
            if score < limit.limit else None
            for score, kind in zip(*domains.odds_and_kinds(self.domain, features, limit.kinds), strict=True)
        ]  # fmt: skip

    def cells(self) -> Cells | None:
        """The cells of the head, None for a head without."""
        return head_cells(self.head)

    def neighbours(self, features: NDArray[np.float32], count: int) -> list[list[Neighbour]] | None:
        """The ``count`` pictures of the gallery most like each of (N, F) features; None for a head without one."""
        if not isinstance(self.head, GalleryHead):
            return None
        out: list[list[Neighbour]] = []
        with torch.inference_mode():
            for rows in torch.split(torch.from_numpy(np.ascontiguousarray(features, np.float32)), ROWS):
                cosine, entry, places = self.head.similar(self.head(rows), count)
                lon, lat = sphere.to_lonlat(places.double().numpy())
                parts = (entry.tolist(), cosine.tolist(), lon.tolist(), lat.tolist())
                out += [[Neighbour(*one) for one in zip(*row, strict=True)] for row in zip(*parts, strict=True)]
        return out

    @cached_property
    def gallery_sha256(self) -> str | None:
        """Checksum of the gallery and its places; None for a head without one."""
        tensors = [v for k, v in sorted(self.head.state_dict().items()) if k.endswith((GALLERY, "places"))]
        if not tensors:
            return None
        return hashlib.sha256(b"".join(v.contiguous().numpy().tobytes() for v in tensors)).hexdigest()


def head_density(head: DensityHead, features: NDArray[np.float32]) -> Density:
    """What a head says of (N, F) features, not calibrated."""
    if features.ndim != 2 or not len(features):
        raise InputError(f"features: {features.shape}; expected at least one row")
    parts: list[head_parts.Components] = []
    with torch.inference_mode():
        for rows in torch.from_numpy(np.ascontiguousarray(features, np.float32)).split(ROWS):  # type: ignore[no-untyped-call]
            parts.append(head.components(head(rows)))
    weight, xyz, kappa = (list(v) for v in zip(*parts, strict=True))
    return head_parts.density((torch.cat(weight), _joined(xyz, 3), _joined(kappa, 2)))


def _joined(parts: list[Tensor], dims: int) -> Tensor:
    return torch.cat(parts) if parts[0].ndim == dims else parts[0]


def head_cells(head: nn.Module) -> Cells | None:
    """The cells of a head, None for one without."""
    for part in head.modules():
        if isinstance(part, head_parts.CellBuffers) and len(part):
            return part.cells()
    return None


def cell_probability(density: Density, cells: Cells) -> Floats:
    """(N, K) mass of each cell, each component counted where its centre is."""
    lon, lat = sphere.to_lonlat(density.xyz)
    place = cells.assign(lon.ravel(), lat.ravel()).reshape(lon.shape)
    out = np.zeros((len(density), len(cells)))
    rows = np.broadcast_to(np.arange(len(density))[:, None], density.weight.shape)
    np.add.at(out, (rows, np.broadcast_to(place, density.weight.shape)), density.weight)
    return np.asarray(out / out.sum(1, keepdims=True))


def build_backbone(name: str, weights: str | None = None) -> Backbone:
    """A backbone by name, also those of pooled stages and places.

    Raises InputError for a name or weights that are not known, MissingExtra if the package is not installed.
    """
    if name == places.NAME:
        return places.build(weights)
    return stages.build(weights) if name == stages.NAME else backbones.build(name, weights)


def save(locator: Locator, directory: str | Path, half: bool = True, int8: bool = False) -> LocatorCard:
    """Write the package and give the card as written. Raises ModelError for weights that are not finite, DataError."""
    parts = _parts(locator.backbone, locator.head, locator.domain)
    content = weights.packed(precision.stored(parts.state_dict(), half, int8, GALLERY), locator.card.name)
    parameters = sum(p.numel() for p in parts.parameters())
    kept = ("int8" if int8 else "float16") if half else "float32"
    about = {"weights": weights.WEIGHTS, "parameters": parameters, "stored": kept}
    card = locator.card.model_copy(update=about)
    return weights.write(card, content, directory)


def load(name_or_dir: str | Path | None = None) -> Locator:
    """Read, check and build a locator; None: the one that is installed.

    Raises InputError if several are installed or none, and the errors of `geoml.engine.packages.package.load`.
    """
    card, path, content = weights.read(_only() if name_or_dir is None else name_or_dir, LocatorCard)
    tensors = weights.read_tensors(content, path)
    del content
    try:
        backbone, head = build_backbone(card.backbone), heads.build(card.head, card.head_config)
        about = card.domain
        domain = None if about is None else DomainHead(card.features, len(about.kinds), about.hidden)
    except (OSError, InputError) as err:
        raise ModelError(f"{path.parent}: {err}") from err
    if backbone.features != card.features or card.head_config.get("features") != card.features:
        raise ModelError(f"{path.parent}: {card.backbone} has {backbone.features} features, not {card.features}")
    weights.fill(_parts(backbone, head, domain), tensors, path)
    return Locator(backbone, head, card, path.parent, domain)


def _parts(backbone: Backbone, head: nn.Module, domain: DomainHead | None) -> nn.ModuleDict:
    """The network whose tensors a package holds, under their names there."""
    return nn.ModuleDict({"backbone": backbone, "head": head, **({} if domain is None else {"domain": domain})})


def _only() -> str:
    names = cards.names(LocatorCard)
    if len(names) != 1:
        raise InputError(f"model: {listed(names, 'no locator')} installed; expected --model NAME_OR_DIR")
    return names[0]


def rounded(module: M, half: bool, int8: bool) -> M:
    """A copy of a module with the weights that it has after `save` and `load`."""
    again, state = copy.deepcopy(module), module.state_dict()
    read = precision.unpacked(precision.stored(state, half, int8, GALLERY), "weights")
    again.load_state_dict({name: value.to(state[name].dtype) for name, value in read.items()})
    return again
