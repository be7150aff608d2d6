"""Models: one file each, and the file name is the name.

A model file holds the paper in its docstring, ``TASKS`` (names in ``geoml.tasks``), a frozen dataclass ``Config`` with
at least ``bands`` and ``classes``, ``build`` (what makes the network of a ``Config``, often its class) and, for the
contract tests, ``TINY`` (arguments of a small ``Config``). The network maps (batch, bands, y, x) float to (batch,
classes, y, x) logits for any height and width and has an integer ``stride``: chips that start at its multiples see the
same network. It is randomly initialised unless the config has ``encoder_weights``, see `geoml.nn.encoders.initialise`.

Several dates come as (batch, dates * bands, y, x), all bands of the first date first. A ``Config`` with a field
``dates`` has ``bands`` for each date; any other network takes the dates as so many more bands.

A network with a method ``loss(raw, target)`` is trained with that instead of the loss of its task: ``raw`` is its
output in training mode, of any shape that begins with the batch, and ``target`` what the task learns from.

``describe(mean, std, wavelengths)``, if a network has it, is called before training with how its input is standardised
and the wavelength of each channel (nm, None if unknown). A network with ``solve(pixels, labels, penalty)`` has a convex
loss: it sets the best weights for standardised (N, dates * bands) pixels and their classes at once, instead of the
training loop, for each of the ``PENALTIES`` of its file, of which validation chooses one.

A file with ``encoder(config)`` has a part that embeds each pixel and is useful without classes: a network that maps the
same input to (batch, width, y, x), with integers ``width`` and ``steps``, the maximum length of a series.

The file of a forecast has ``TASKS = ("forecast",)`` and a ``Config`` that extends
`geoml.nn.forecast.config.ForecastConfig` in place of bands and classes: the network maps the channels of
`geoml.nn.forecast.layout` to (batch, leads * quantiles, y, x), quantiles that never cross. One that needs no training
extends `geoml.nn.forecast.estimated.EstimatedForecast`.

A file with ``calibrate(network, pixels)`` holds a calibrated model: nothing is trained, and its state is estimated on
the pixels of the run itself. ``pixels`` is (N, dates * bands) float32 of valid physical values; a fresh network takes
its state from them and sets its buffer ``ready``. A method ``doubt(pixels)``, if there is one, returns a sentence on
what speaks against its result on the pixels that it was calibrated on, "" for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from geoml.errors import unknown
from geoml.registry import Registry

if TYPE_CHECKING:
    from torch import nn

_FILES = Registry(__name__, "architecture")
names, find, configure = _FILES.names, _FILES.find, _FILES.configure


def fixed_by_data(architecture: str, bands: int, dates: int, classes: int) -> dict[str, int]:
    """The fields of a ``Config`` that data and classes decide: for ``bands`` of each of ``dates``; a forecast has none,
    since its own say how its channels lie."""
    fields = _FILES.fields(architecture)
    if "dates" in fields:
        return {"bands": bands, "dates": dates, "classes": classes}
    return {"bands": bands * dates, "classes": classes} if "bands" in fields else {}


def calibrated(architecture: str) -> bool:
    """True for a model whose state is estimated on the pixels of the run; its file has ``calibrate``."""
    return architecture in names() and _FILES.defines(architecture, "calibrate")


def build(architecture: str, config: Mapping[str, object]) -> nn.Module:
    """A model by name: ``build("unet", {"bands": 4, "classes": 3})``. Raises InputError as `configure` does.

    It is the same under ``torch.inference_mode``, where no weight has a gradient and so all would seem unused.
    """
    import torch

    with torch.inference_mode(False):
        module: nn.Module = _FILES.build(architecture, config)
    return module


def encoder(architecture: str, config: Mapping[str, object]) -> nn.Module:
    """The encoder of a model by name. Raises InputError as `configure` does, and for a model that has none."""
    if architecture not in names() or not _FILES.defines(architecture, "encoder"):
        raise unknown("encoder", architecture, [n for n in names() if _FILES.defines(n, "encoder")])
    module: nn.Module = find(architecture).encoder(configure(architecture, {"classes": 1, **config}))
    return module
