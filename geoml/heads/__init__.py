"""Heads of geolocation: one file each, and the file name is the name.

A head turns features of a picture, (B, features) float32 of any backbone, into a density over the sphere. Its file
holds the paper in its docstring, a frozen dataclass ``Config`` whose first field is ``features``, ``build(config)``,
``UNIMODAL`` (True where it cannot say "here or there") and, for the contract tests, ``TINY`` (arguments of a small
``Config``). The built module has

- ``start(features, xyz)``: called once before training with the (N, features) and unit vectors (N, 3) of the training
  set, and before an optimiser is made, since it may add weights; afterwards ``config`` says every shape, so that a
  head built from it takes the saved state;
- ``forward(features) -> raw``: (B, anything);
- ``loss(raw, xyz)``: a scalar, against unit vectors (B, 3) of the true places;
- ``components(raw)``: log weights (B, K) that sum to 1, unit vectors (B, K, 3) or (K, 3), concentrations (B, K) or
  (K,) of von Mises-Fisher components; `geoml.nn.locating.density` makes a `geoml.grid.density.Density` of them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from geoml.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import nn


def names() -> list[str]:
    """Every head of the package, found by its file."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def find(name: str) -> ModuleType:
    """The file of a head. Raises InputError, with the nearest name, for one that is not there."""
    known = names()
    if name not in known:
        raise unknown("head", name, known)
    return importlib.import_module(f"{__name__}.{name}")


def configure(name: str, config: Mapping[str, Any]) -> Any:
    """The head's ``Config`` from plain values (JSON, YAML), types checked.

    Raises InputError, naming the field, for an unknown or missing one and for a value of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    kind = find(name).Config
    if extra := sorted(set(config) - set(kind.__dataclass_fields__)):
        raise unknown(f"config of {name}", extra[0], kind.__dataclass_fields__)
    try:
        return TypeAdapter(kind).validate_python(dict(config))
    except ValidationError as err:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in err.errors()]
        raise InputError(f"config of {name}: " + "; ".join(lines)) from err


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """A head by name: ``build("cells", {"features": 1280})``. Raises InputError as `configure` does."""
    module: nn.Module = find(name).build(configure(name, config))
    return module
