"""Backbones: networks that turn a picture into one vector of features, by name, and the weights that they start from.

``alexnet`` (Krizhevsky: One weird trick for parallelizing convolutional neural networks. 2014,
https://arxiv.org/abs/1404.5997, by torchvision); ``efficientnet-lite0``; ``timm:NAME`` and ``torchvision:NAME`` for any
network that classifies pictures.
Weights come from a ``.safetensors`` file or, for ``efficientnet-lite0``, from an installed package; nothing is
downloaded and no pickle is read but that package's file, which is known to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
import torchvision
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from geoml.errors import InputError, ModelError, unknown
from geoml.nn.weights.transfer import efficientnet_lite0, start_from

ALEXNET_LEAST = 63
"""Sides of the smallest picture that is left with a pixel after AlexNet's last pooling."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """(B, 3, H, W) float32 RGB, normalised, to (B, ``features``).

    ``size`` is the side in pixels that it was made for, ``least`` the smallest that it can take; pixels in [0, 1] are
    normalised by ``mean`` and ``std``.
    """

    def __init__(
        self, name: str, net: nn.Module, features: int, size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.name, self.net, self.features, self.size, self.least = name, net, features, size, 1
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        if min(x.shape[-2:]) < self.least:
            raise InputError(f"picture: {x.shape[-2]} x {x.shape[-1]} pixels; {self.name} needs sides of {self.least}")
        y = self.net(x)
        if not isinstance(y, Tensor) or y.ndim != 2 or y.shape[1] != self.features:
            raise ModelError(f"backbone {self.name}: gives no (B, {self.features}) features")
        return y

    def normalised(self, rgb: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """What `forward` takes."""
        mean, std = (torch.tensor(v, device=rgb.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (rgb.float() / 255 - mean) / std


def build(name: str, weights: str | None = None) -> Backbone:
    """A backbone by name. ``weights``: None for random ones, ``imagenet``, or the path of a ``.safetensors`` file that
    holds every tensor of it under the names of its library (a whole geoml package of the same backbone fits too).

    Raises InputError for a name or weights that are not known, MissingExtra if the package is not installed,
    ModelError if the file is damaged or not of this network.
    """
    library, _, architecture = name.partition(":")
    if library == "timm" and architecture:
        made = _timm(name, architecture)
    elif library == "torchvision" and architecture:
        made = _torchvision(name, architecture)
    elif name == "alexnet":
        made = _torchvision(name, "alexnet")
        made.least = ALEXNET_LEAST
    elif name == "efficientnet-lite0":
        made = _timm(name, "tf_efficientnet_lite0")
    else:
        raise unknown("backbone", name, ["alexnet", "efficientnet-lite0", "timm:NAME", "torchvision:NAME"])
    if weights == "imagenet":
        if name != "efficientnet-lite0":
            raise InputError(f"weights: imagenet fits efficientnet-lite0, not {name}; expected a .safetensors file")
        efficientnet_lite0(made.net)
    elif weights is not None:
        _fill(made, weights)
    return made


def _fill(made: Backbone, path: str) -> None:
    """Every tensor of the network from a file, whose names may begin with those of a geoml package."""
    for part, prefix in ((made.net, ""), (made, "net."), (nn.ModuleDict({"backbone": made}), "backbone.net.")):
        try:
            copied = set(start_from(part, path))
        except InputError as err:
            if "no tensor" in str(err):
                continue
            raise InputError(f"weights: {path}; expected imagenet or a .safetensors file") from err
        missing = [k for k in made.net.state_dict() if f"{prefix}{k}" not in copied and "num_batches" not in k]
        if missing:
            raise ModelError(f"weights: {path} lacks {missing[0]} of {made.name}, or has it in another shape")
        return
    raise InputError(f"weights: no tensor of {path} fits {made.name}")


def _timm(name: str, architecture: str) -> Backbone:
    if not timm.is_model(architecture):
        raise unknown("backbone", name, (f"timm:{n}" for n in timm.list_models()))
    try:
        net: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    except (RuntimeError, TypeError, ValueError) as err:
        raise InputError(f"backbone: {name} is not a network that classifies pictures ({err})") from err
    config = net.pretrained_cfg
    size = config.get("input_size", (3, 224, 224))[-1]
    features = int(getattr(net, "head_hidden_size", None) or net.num_features)
    return Backbone(name, net, features, size, config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD))


def _torchvision(name: str, architecture: str) -> Backbone:
    architectures = torchvision.models.list_models(module=torchvision.models)
    if architecture not in architectures:
        raise unknown("backbone", name, (f"torchvision:{n}" for n in architectures))
    transform = torchvision.models.get_model_weights(architecture).DEFAULT.transforms()
    options = {"aux_logits": False, "init_weights": True} if architecture in ("googlenet", "inception_v3") else {}
    net = torchvision.models.get_model(architecture, weights=None, **options)
    linear = [(path, part) for path, part in net.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise InputError(f"backbone: {name} ends in no fully connected layer that could be taken off")
    path, last = linear[-1]
    net.set_submodule(path, nn.Identity())
    return Backbone(name, net, last.in_features, transform.crop_size[0], transform.mean, transform.std)
