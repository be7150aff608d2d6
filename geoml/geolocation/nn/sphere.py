"""Distances and densities on the sphere for losses: gradients are finite at every place and every pair of places.

Degrees with lon before lat, or unit vectors (..., 3); distances in km. A distance has a kink at 0 and at the antipode;
`SOFT` rounds it over a few metres, so the gradient there is 0 and not NaN.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from geoml.grid.sphere import EARTH_RADIUS_KM

SOFT = 1e-12
"""Added to squared half chords: distances below some 10 m are rounded up, at most to 13 m."""
Scalars = Float[Tensor, "*batch"]


def to_xyz(lon: Scalars, lat: Scalars) -> Float[Tensor, "*batch 3"]:
    """Degrees to unit vectors."""
    x, y = torch.deg2rad(lon), torch.deg2rad(lat)
    return torch.stack([y.cos() * x.cos(), y.cos() * x.sin(), y.sin()], dim=-1)


def haversine(lon1: Scalars, lat1: Scalars, lon2: Scalars, lat2: Scalars) -> Scalars:
    """Km along the great circle: 2 R atan2(sqrt(a), sqrt(1 - a)), a the haversine; OSV-5M's form of it.

    Astruc et al. 2024, https://arxiv.org/abs/2404.18873. The derivative by longitude vanishes at the poles, where all
    longitudes are one place.
    """
    x1, y1, x2, y2 = (torch.deg2rad(v) for v in (lon1, lat1, lon2, lat2))
    both = y1.cos() * y2.cos()
    a = ((y2 - y1) / 2).sin().square() + both * ((x2 - x1) / 2).sin().square()
    b = ((y2 + y1) / 2).sin().square() + both * ((x2 - x1) / 2).cos().square()  # 1 - a without cancellation
    return 2 * EARTH_RADIUS_KM * torch.atan2((a + SOFT).sqrt(), (b + SOFT).sqrt())


def chordal_loss(a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Half the squared chord between unit vectors, 1 - cos of the angle: smooth everywhere, 0 to 2."""
    return (a - b).square().sum(-1) / 2


def log_vmf(
    xyz: Float[Tensor, "*#batch 3"], mu: Float[Tensor, "*#batch 3"], kappa: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch"]:
    """Log density in nats per steradian of von Mises–Fisher around ``mu``, of a concentration above 0.

    log kappa / (2 pi (1 - exp(-2 kappa))) + kappa (mu.x - 1), which does not overflow; mu.x - 1 is taken from the
    chord, so that nothing cancels where kappa is large.
    """
    peak = kappa.log() - math.log(2 * math.pi) - torch.log(-torch.expm1(-2 * kappa))
    return peak - kappa * (xyz - mu).square().sum(-1) / 2


def smoothed_labels(km: Float[Tensor, "batch cells"], tau_km: float) -> Float[Tensor, "batch cells"]:
    """Distances to the true place to label weights, exp(-(d - min d) / tau), whose rows sum to 1.

    Haas, Skreta, Alberti, Finn: PIGEON, CVPR 2024, equation 2, https://arxiv.org/abs/2307.05845; normalised here.
    """
    return torch.softmax(-km / tau_km, dim=-1)
