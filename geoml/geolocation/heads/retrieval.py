"""Retrieval: the places of the most similar training pictures, as a density and not as the best of them.

Vo, Jacobs, Hays: Revisiting IM2GPS in the Deep Learning Era. ICCV 2017, https://arxiv.org/abs/1705.04838: nearest
neighbours and a kernel density over their places. Similarity is the cosine of standardised features, or of their first
principal components, weighed by the fourth root of their variance so that the many small ones count; each of the
``neighbours`` weighs exp(similarity / temperature) and is a von Mises-Fisher kernel.

The gallery is filled by `start`, after which the head answers. Only temperature and width of the kernel can be learnt;
the gallery's pictures of the same place are then left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geoml.errors import InputError
from geoml.geolocation.density import vmf
from geoml.geolocation.nn.head_parts import (
    Components,
    DensityHead,
    FeatureConfig,
    Features,
    Raw,
    Scalar,
    Standardise,
    Xyz,
    unit,
)
from geoml.geolocation.nn.sphere import log_vmf

UNIMODAL = False
TINY: dict[str, object] = {"neighbours": 10}

SAME = 1 - 1e-6
"""Cosine of two places from which they are one while learning, about 9 km: else the other views of the picture's own
place would teach that neighbours are never wrong."""


@dataclass(frozen=True)
class Config(FeatureConfig):
    """Arguments of `build`: how many ``neighbours``, the ``temperature`` of cosines and the radius in km that holds
    90 % of a kernel, where learning starts; how many principal components (``dims``) are compared, 0 for the features
    themselves. ``gallery`` is how many pictures there are; `start` sets it."""

    gallery: int = 0
    neighbours: int = 20
    temperature: float = 0.05
    kernel_km: float = 200.0
    dims: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dims <= self.features:
            raise InputError(f"dims: {self.dims}; expected 0 to {self.features}, which is how many features there are")
        if self.features < 1 or self.gallery < 0 or self.neighbours < 1:
            raise InputError(
                f"features {self.features}, gallery {self.gallery}, neighbours {self.neighbours}; "
                "expected at least one of each, and a gallery of at least 0"
            )
        if not (0 < self.temperature < math.inf and 0 < self.kernel_km < math.inf):
            raise InputError(f"temperature {self.temperature}, kernel_km {self.kernel_km}; expected positive numbers")


class Retrieval(DensityHead):
    """(B, features) to (B, M) cosines with the gallery."""

    config: Config
    gallery: Tensor
    places: Tensor
    project: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.standardise = Standardise(config.features)
        self.register_buffer("gallery", torch.zeros(config.gallery, config.dims or config.features))
        if config.dims:
            self.register_buffer("project", torch.zeros(config.features, config.dims))
        self.register_buffer("places", torch.tensor([[1.0, 0.0, 0.0]]).repeat(config.gallery, 1))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.log_kappa = nn.Parameter(torch.tensor(math.log(float(vmf.concentration(config.kernel_km)) + 1e-3)))

    def start(self, features: Features, xyz: Xyz) -> None:
        """Fill the gallery with features and their places."""
        self.measure(features, xyz)
        self.config = replace(self.config, gallery=len(features))
        if self.config.dims:
            self.project.copy_(principal_axes(self.standardise(features), self.config.dims))
        self.register_buffer("gallery", self.compared(features).detach().clone())
        self.register_buffer("places", unit(xyz).to(features).clone())

    def forward(self, x: Features) -> Raw:
        if not len(self.gallery):
            raise InputError("gallery: empty; call start with the pictures to search")
        return self.compared(x) @ self.gallery.T

    def compared(self, x: Features) -> Float[Tensor, "batch dims"]:
        """The unit vectors whose cosines are taken."""
        z: Tensor = self.standardise(x)
        return unit(z @ self.project if self.config.dims else z)

    def nearest(self, score: Raw) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """Log weights that sum to 1, and entries, of the highest scores."""
        best, entry = score.topk(min(self.config.neighbours, score.shape[1]), dim=1)
        return best.log_softmax(1), entry

    def similar(
        self, raw: Raw, count: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"], Float[Tensor, "batch k 3"]]:
        """Cosines, entries and places of the ``count`` most similar pictures."""
        cosine, entry = raw.topk(min(count, raw.shape[1]), dim=1)
        return cosine, entry, self.places[entry]

    def score(self, raw: Raw) -> Raw:
        """Cosines over the temperature."""
        return raw / self.log_temperature.clamp(-7.0, 3.0).exp()

    def others(self, raw: Raw, xyz: Xyz) -> Raw:
        """Cosines in which pictures of the very same places are not similar at all."""
        return raw.masked_fill(xyz.to(raw) @ self.places.T > SAME, -1.0)

    @property
    def kappa(self) -> Scalar:
        """Concentration of the kernel."""
        return self.log_kappa.clamp(-7.0, 18.4).exp()

    def loss(self, raw: Raw, xyz: Xyz) -> Scalar:
        """Negative log-likelihood in nats per steradian, the picture itself left out of the gallery."""
        weight, entry = self.nearest(self.score(self.others(raw, xyz)))
        return -(weight + log_vmf(xyz[:, None], self.places[entry], self.kappa)).logsumexp(1).mean()

    def components(self, raw: Raw) -> Components:
        weight, entry = self.nearest(self.score(raw))
        return weight, self.places[entry], self.kappa.expand(weight.shape)


def principal_axes(x: Float[Tensor, "n features"], count: int) -> Float[Tensor, "features count"]:
    """Axes of the largest variance, each over the fourth root of its variance."""
    variance, axes = torch.linalg.eigh(torch.cov(x.double().T, correction=0))
    variance, axes = variance.flip(0)[:count], axes.flip(1)[:, :count]
    scaled: Tensor = axes / variance.clamp_min(1e-9).pow(0.25)
    return scaled


def build(config: Config) -> Retrieval:
    """The head with an empty gallery."""
    return Retrieval(config)
