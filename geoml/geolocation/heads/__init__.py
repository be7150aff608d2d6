"""Heads of geolocation: one file each, and the file name is the name.

A head turns features of a picture, (B, features) float32 of any backbone, into a density over the sphere. Its file
holds the paper in its docstring, a frozen dataclass ``Config`` whose first field is ``features``, ``build(config)``,
``UNIMODAL`` (True where it cannot say "here or there") and, for the contract tests, ``TINY`` (arguments of a small
``Config``). The built `DensityHead` has

- ``start(features, xyz)``: called once before training with the (N, features) and unit vectors (N, 3) of the training
  set, and before an optimiser is made, since it may add weights; afterwards ``config`` says every shape, so that a
  head built from it takes the saved state;
- ``forward(features) -> raw``: (B, anything);
- ``loss(raw, xyz)``: a scalar, against unit vectors (B, 3) of the true places;
- ``components(raw)``: log weights (B, K) that sum to 1, unit vectors (B, K, 3) or (K, 3), concentrations (B, K) or
  (K,) of von Mises-Fisher components; `geoml.geolocation.nn.head_parts.density` makes a
  `geoml.geolocation.density.density.Density` of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from geoml.registry import Registry

if TYPE_CHECKING:
    from geoml.geolocation.nn.head_parts import DensityHead

_FILES = Registry(__name__, "head")
names, find, configure = _FILES.names, _FILES.find, _FILES.configure


def build(name: str, config: Mapping[str, object]) -> DensityHead:
    """A head by name: ``build("cells", {"features": 1280})``. Raises InputError as `configure` does."""
    head: DensityHead = _FILES.build(name, config)
    return head
