"""A region, a time range and a model in; a map that people can trust out.

``geoml.search``, ``geoml.predict``, ``geoml.stream``, ``geoml.train``, ``geoml.evaluate``, ``geoml.forecast`` (for
tables), ``geoml.geolocate`` and ``geoml.track`` do the same as the commands of those names. ``geoml.open`` opens the
output of a run, and ``geoml.apply`` runs a model on an array. They are imported on first use, so ``import geoml`` stays
fast.
"""

import importlib
from typing import TYPE_CHECKING

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
    from geoml.engine.results.run import Run, open
    from geoml.engine.run.search import search
    from geoml.engine.stream.apply import apply
    from geoml.engine.stream.run import stream
    from geoml.forecasting.steps import forecast
    from geoml.geolocation.steps import geolocate, track
    from geoml.interactive import predict
    from geoml.pipeline import evaluate, train

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "GeomlError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "NothingFound",
    "Run",
    "TransientError",
    "apply",
    "evaluate",
    "forecast",
    "geolocate",
    "open",
    "predict",
    "search",
    "stream",
    "track",
    "train",
]


_STEPS = {
    "Run": "geoml.engine.results.run",
    "apply": "geoml.engine.stream.apply",
    "evaluate": "geoml.pipeline",
    "forecast": "geoml.forecasting.steps",
    "geolocate": "geoml.geolocation.steps",
    "open": "geoml.engine.results.run",
    "predict": "geoml.interactive",
    "search": "geoml.engine.run.search",
    "stream": "geoml.engine.stream.run",
    "track": "geoml.geolocation.steps",
    "train": "geoml.pipeline",
}


def __getattr__(name: str) -> object:
    if name in _STEPS:
        return vars(importlib.import_module(_STEPS[name]))[name]
    raise AttributeError(f"module 'geoml' has no attribute {name!r}")
