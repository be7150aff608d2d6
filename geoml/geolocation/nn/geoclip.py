"""GeoCLIP's location encoder: a place to the 512 numbers that CLIP pictures of such a place were trained to match.

Vivanco Cepeda, Nayak, Shah: GeoCLIP: Clip-Inspired Alignment between Locations and Images for Effective Worldwide
Geo-localization. NeurIPS 2023, section 3.2, https://arxiv.org/abs/2309.16020. The place in the Equal Earth projection
goes through random Fourier features of three scales and a small network for each; their sum is the answer. Similar
embeddings are of similar places (two cities, two deserts), not of near ones.

Weights are those of the package ``geoclip`` (MIT), which is read and not imported, so that it needs no transformers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from geoml.errors import MissingExtra, ModelError

WIDTH = 512
SIGMAS = (2.0**0, 2.0**4, 2.0**8)
FREQUENCIES = 256
SHA256 = "94b80ae3af89fca78539e129dd2929d321247f5ceeeb0a31bc2c31041a253394"
"""The published file (geoclip 1.3.0): known to the byte, and read with weights_only all the same."""

_A = (1.340264, -0.081106, 0.000893, 0.003796)
_SCALE = 66.50336 / 180


def equal_earth(lon: Tensor, lat: Tensor) -> Tensor:
    """(...) degrees to (..., 2) x and y on a sphere of radius 1.

    Šavrič, Patterson, Jenny: The Equal Earth map projection. IJGIS 33, 2018,
    https://doi.org/10.1080/13658816.2018.1504949.
    """
    a1, a2, a3, a4 = _A
    theta = torch.asin(math.sqrt(3) / 2 * torch.deg2rad(lat).sin())
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * math.sqrt(3) / 3 * torch.deg2rad(lon) * theta.cos() / slope
    return torch.stack([x, a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta], dim=-1)


class Fourier(nn.Module):
    """(..., 2) to (..., 512): cosines and sines of random directions and of frequencies of the size of ``sigma``."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.randn(FREQUENCIES, 2) * sigma, requires_grad=False)

    def forward(self, v: Tensor) -> Tensor:
        turn = 2 * math.pi * v @ self.b.T
        return torch.cat([turn.cos(), turn.sin()], dim=-1)


class Capsule(nn.Module):
    """(..., 2) to (..., 512) at one scale."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [Fourier(sigma)]
        for before in (2 * FREQUENCIES, 1024, 1024):
            layers += [nn.Linear(before, 1024), nn.ReLU()]
        self.capsule = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(1024, WIDTH))

    def forward(self, v: Tensor) -> Tensor:
        return self.head(self.capsule(v))  # type: ignore[no-any-return]


class LocationEncoder(nn.Module):
    """(B,) lon and (B,) lat in degrees, float32, to (B, 512). Names of weights are those of the published file."""

    def __init__(self) -> None:
        super().__init__()
        for place, sigma in enumerate(SIGMAS):
            self.add_module(f"LocEnc{place}", Capsule(sigma))

    def forward(self, lon: Tensor, lat: Tensor) -> Tensor:
        v = equal_earth(lon, lat) * _SCALE
        return torch.stack([part(v) for part in self.children()]).sum(0)


def load() -> LocationEncoder:
    """The encoder with its published weights, in eval mode.

    Raises MissingExtra where ``geoclip`` is not installed, ModelError where its file is not the known one.
    """
    found = importlib.util.find_spec("geoclip")
    if found is None or found.origin is None:
        raise MissingExtra("geoclip: install geoml[geoclip], or geoclip==1.3.0 without its dependencies")
    path = Path(found.origin).parent / "model" / "weights" / "location_encoder_weights.pth"
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ModelError(f"{path}: not the published file of geoclip 1.3.0 (missing, or its sha256 differs)")
    made = LocationEncoder()
    made.load_state_dict(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))
    return made.eval()
