"""Encoders of segmentation-models-pytorch and timm, for any number of bands, and the weights that they start from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from geoml.errors import InputError, TransientError, unknown
from geoml.nn.weights.transfer import efficientnet_lite0, start_from

Network = TypeVar("Network", bound=nn.Module)

LITE0 = "tu-tf_efficientnet_lite0"
"""The encoder that the weights ``efficientnet-lite0`` fit."""


@dataclass(frozen=True)
class EncoderConfig:
    """What the configs of models with such an encoder begin with."""

    bands: int
    classes: int
    encoder: str = "resnet18"
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        if self.bands < 1 or self.classes < 1:
            raise InputError(f"bands {self.bands}, classes {self.classes}; expected at least one of each")


def check(encoder: str) -> None:
    """Raise InputError, with the nearest name, for an encoder that neither smp nor (with ``tu-``) timm has."""
    if encoder.startswith("tu-"):
        if not timm.is_model(encoder[3:]):
            raise unknown("encoder", encoder, (f"tu-{name}" for name in timm.list_models()))
    elif encoder not in (names := smp.encoders.get_encoder_names()):
        raise unknown("encoder", encoder, names)


def segmentation_model(kind: type[Network], encoder: str, weights: str | None, bands: int, **options: Any) -> Network:
    """A model of smp for ``bands``; its encoder starts from ImageNet, fetched by smp, when ``weights`` is ``imagenet``.

    Raises InputError for an encoder or option that does not fit, TransientError if the download fails.
    """
    check(encoder)
    source = None if weights != "imagenet" else True if encoder.startswith("tu-") else "imagenet"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecation notes between smp and timm, nothing a user can act on
            model = kind(encoder_name=encoder, encoder_weights=source, in_channels=bands, **options)
        return drop_unused(model, bands)
    except OSError as err:
        raise TransientError(f"encoder_weights: imagenet for {encoder} could not be fetched ({err})") from err
    except (KeyError, ValueError, TypeError, RuntimeError, NotImplementedError, AssertionError) as err:
        raise InputError(f"encoder: {encoder!r} does not fit these options ({err})") from err


def plain_encoder(encoder: str, weights: str | None, bands: int, depth: int) -> tuple[nn.Module, list[int]]:
    """An encoder alone, (B, bands, y, x) to the input and ``depth`` maps, each of half the size of the one before it;
    and their channels. Raises as `segmentation_model`.
    """
    shrunk = {"encoder_depth": depth, "decoder_channels": (16,) * depth, "classes": 1}
    net = segmentation_model(smp.Unet, encoder, weights, bands, **shrunk)
    return net.encoder, list(net.encoder.out_channels)


def drop_unused(model: Network, bands: int) -> Network:
    """The model without layers that no output depends on: smp keeps the deep stages of an encoder that is cut short.

    It gives one tensor or several. What is unused shows in a backward pass: its weights get no gradient at all.
    """
    was_training = model.training
    with torch.enable_grad():
        y = model.eval()(torch.zeros(1, bands, 64, 64))
        parts = [y] if isinstance(y, torch.Tensor) else y
        torch.autograd.backward([y.sum() for y in parts if y.requires_grad])
    unused = {name for name, weight in model.named_parameters() if weight.grad is None}
    for name, part in list(model.named_modules()):
        weights = {f"{name}.{w}" for w, _ in part.named_parameters()}
        if name and weights and weights <= unused:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.Identity())
            unused -= weights
    model.zero_grad(set_to_none=True)
    return model.train(was_training)


def initialise(module: nn.Module, name: str, weights: str | None) -> None:
    """Start a ``module`` with ``net.encoder`` of that ``name`` from what its config calls ``encoder_weights``.

    None and ``imagenet`` leave it as it was built; ``efficientnet-lite0`` fills an encoder of that name from an
    installed package; else ``weights`` is the path of a ``.safetensors`` file of any geoml package, of which all that
    fits is copied. Raises InputError, MissingExtra or ModelError.
    """
    if weights is None or weights == "imagenet":
        return
    if weights != "efficientnet-lite0":
        start_from(module, weights)
    elif name == LITE0:
        efficientnet_lite0(module.get_submodule("net.encoder"))
    else:
        raise InputError(f"encoder_weights: efficientnet-lite0 fits the encoder {LITE0}, not {name}")
