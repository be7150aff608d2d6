"""The published land-cover network of Dynamic World."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml import models
from geoml.engine.importers._published import arrays, difference, inside, reference
from geoml.engine.packages import package
from geoml.errors import InputError, ModelError
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.models.dynamicworld import DynamicWorld, Unit

BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "swir16", "swir22")
"""Sentinel-2 B2 B3 B4 B5 B6 B7 B8 B11 B12."""
CLASSES = {
    "water": "#419bdf",
    "trees": "#397d49",
    "grass": "#88b053",
    "flooded_vegetation": "#7a87c6",
    "crops": "#e49635",
    "shrub_and_scrub": "#dfc35a",
    "built": "#c4281b",
    "bare": "#a59b8f",
    "snow_and_ice": "#b39fe1",
}
_PARTS = ("main.0", "main.1", "main.2", "main.3", "main.4", "main.5", "skip")
LAYERS = ("stem", "side.0", "side.1", *(f"{block}.{part}" for block in ("main.0", "main.1", "join") for part in _PARTS))
"""Our names of the convolutions before each ``batch_normalization`` of the published variables, in their order."""
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_KERNELS = {
    True: ("conv2d", "kernel", (3, 2, 0, 1)),
    False: ("depthwise_conv2d", "depthwise_kernel", (2, 3, 0, 1)),
}
DESCRIPTION = (
    "Land cover of one cloud-free date of Sentinel-2 at 10 m, nine classes, anywhere on land. Published for level L1C; "
    "L2A works too (see scores). Clouds become snow, their shadows water: mask them"
)
TRAINING = {
    "source": "https://github.com/google/dynamicworld",
    "paper": "https://doi.org/10.1038/s41597-022-01307-4",
    "images": "Sentinel-2 scenes of 2019 with few clouds, annotated by hand; sites drawn by biome in both hemispheres",
    "by": "Google, in partnership with National Geographic and the World Resources Institute",
}
TOLERANCE = 1e-4
WHAT = "Dynamic World's arrays"


def convert(source: str | Path, out: str | Path) -> MapCard:
    """A model package in ``out``; its card.

    ``source`` holds ``dw_forward_vars.npz`` (variables by name), ``normalisation.json`` (shift and scale by band)
    and, to check against, ``reference_128.npz`` (an input and the logits of the original).
    Raises InputError for a missing file, ModelError if variables do not fit or the output is not the reference.
    """
    folder = Path(source)
    variables = arrays(inside(folder, "dw_forward_vars.npz"), WHAT)
    pairs = _normalisation(folder / "normalisation.json")
    config = {
        "bands": len(BANDS),
        "classes": len(CLASSES),
        "log_shift": [shift for shift, _ in pairs],
        "log_scale": [scale for _, scale in pairs],
    }
    module = models.build("dynamicworld", config)
    assert isinstance(module, DynamicWorld)
    _fill(module, variables)
    scores = {}
    if (folder / "reference_128.npz").is_file():
        scores["reference_difference"] = _compare(module, folder / "reference_128.npz")
    card = MapCard(
        name="dynamic-world",
        description=DESCRIPTION,
        architecture="dynamicworld",
        config=config,
        bands=tuple(Band(name=name, std=1e-4, unit="reflectance") for name in BANDS),
        gsd=10.0,
        chip_size=256,
        classes=tuple(ClassInfo(value=k, name=n, color=c) for k, (n, c) in enumerate(CLASSES.items())),
        training=TRAINING,
        scores=scores,
    )
    return package.save(module, card, out)


def _fill(module: nn.Module, variables: dict[str, NDArray[np.float32]]) -> None:
    """Copy every published variable to its layer. Raises ModelError for a missing, unknown or mis-shaped one."""
    tensors: dict[str, NDArray[np.float32]] = {}
    used: set[str] = set()

    def take(name: str, axes: tuple[int, ...] | None = None) -> NDArray[np.float32]:
        if name not in variables:
            raise ModelError(f"dynamic world: variable {name} is missing")
        used.add(name)
        return variables[name] if axes is None else variables[name].transpose(axes)

    counts = {"conv2d": 0, "depthwise_conv2d": 0}
    for norm, layer in enumerate(LAYERS):
        unit = module.get_submodule(layer)
        assert isinstance(unit, Unit)
        kind, kernel, axes = _KERNELS[unit.conv.groups == 1]
        source, statistics = _numbered(kind, counts[kind]), _numbered("batch_normalization", norm)
        counts[kind] += 1
        tensors[f"{layer}.conv.weight"] = take(f"{source}/{kernel}", axes)
        tensors[f"{layer}.conv.bias"] = take(f"{source}/bias")
        tensors |= {f"{layer}.norm.{ours}": take(f"{statistics}/{theirs}") for ours, theirs in NORM.items()}
    head = _numbered("conv2d", counts["conv2d"])
    tensors |= {"head.weight": take(f"{head}/kernel", (3, 2, 0, 1)), "head.bias": take(f"{head}/bias")}
    if left := sorted(set(variables) - used):
        raise ModelError(f"dynamic world: variable {left[0]} is not known")
    with torch.no_grad():
        for name, target in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            value = torch.from_numpy(np.ascontiguousarray(tensors[name]))
            if value.shape != target.shape:
                raise ModelError(f"dynamic world: {name} is {tuple(value.shape)}, expected {tuple(target.shape)}")
            target.copy_(value)


def _numbered(name: str, number: int) -> str:
    """Keras's names: the first has no number."""
    return f"{name}_{number}" if number else name


def _compare(module: DynamicWorld, path: Path) -> float:
    """Largest difference to the original's logits, which were made from squeezed input."""
    given = reference(path, WHAT, ("input_normalised", "logits"))
    x, expected = (t.movedim(-1, 0)[None] for t in given)
    with torch.no_grad():
        return difference(module.eval().features(x), expected, TOLERANCE, "dynamic world")


def _normalisation(path: Path) -> list[tuple[float, float]]:
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))["shift_scale"]
        return [(float(shift), float(scale)) for shift, scale in pairs]
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected Dynamic World's normalisation") from err
    except (ValueError, KeyError, TypeError) as err:
        raise ModelError(f"{path}: expected shift_scale with two numbers for each band ({err})") from err
