"""A region, a time range and a model in; a map that people can trust out.

``geoml.search``, ``geoml.predict``, ``geoml.train``, ``geoml.evaluate`` and ``geoml.geolocate`` are the steps of the
commands of the same names. They are imported on first use, so ``import geoml`` stays light.
"""

from typing import TYPE_CHECKING, Any

from geoml.errors import (
    DataError,
    GeomlError,
    InputError,
    MissingExtra,
    ModelError,
    NothingFound,
    TransientError,
)

if TYPE_CHECKING:
    from geoml.geolocation.steps import geolocate
    from geoml.pipeline import evaluate, predict, search, train

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "GeomlError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "NothingFound",
    "TransientError",
    "evaluate",
    "geolocate",
    "predict",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "geolocate":
        from geoml.geolocation.steps import geolocate

        return geolocate
    if name in ("evaluate", "predict", "search", "train"):
        from geoml import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'geoml' has no attribute {name!r}")
