"""Fusion of batch normalisations into the convolutions before them: the same function, about a fifth less work.

At inference a batch normalisation is an affine map of each channel, so it can be taken into the weights and the bias
of the convolution that feeds it (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2). Which feeds which is seen by running the network once, so any
architecture is served; a network that does not give the same answer afterwards is left as it was.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

TOLERANCE = 1e-4
"""Largest difference that fusion may make, as a share of the largest output."""


@torch.inference_mode()
def fuse_batch_norms(module: nn.Module, x: Float[Tensor, "batch channel y x"]) -> nn.Module:
    """A copy of ``module`` (in eval mode) with its batch normalisations fused, or ``module`` where that is unsafe.

    ``x`` is an input to try it on; it has to be on the module's device.
    """
    if not any(map(_fusible, module.modules())):
        return module
    expected, pairs = _trace(module, x)
    if not pairs:
        return module
    out = copy.deepcopy(module)
    try:
        for conv, norm in pairs:
            convolution, normalisation = out.get_submodule(conv), out.get_submodule(norm)
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            out.set_submodule(conv, fuse_conv_bn_eval(convolution, normalisation))
            out.set_submodule(norm, _rest(normalisation))
        close = torch.allclose(out(x), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))
    except (AttributeError, TypeError, RuntimeError):  # a forward that needs more of a layer than its output
        return module
    return out if close else module


def _trace(module: nn.Module, x: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """The output for ``x``, and the names of each convolution whose output only goes into a batch normalisation."""
    names = {layer: name for name, layer in module.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensor is kept, so that its id stays its own
    calls: Counter[nn.Module] = Counter()
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def after_conv(layer: nn.Module, _: object, out: Tensor) -> None:
        calls[layer] += 1
        made[id(out)] = (layer, out)

    def before_norm(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[layer] += 1
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], layer))

    hooks = []
    for layer in names:
        if isinstance(layer, nn.Conv2d) and not is_parametrized(layer):
            hooks.append(layer.register_forward_hook(after_conv))
        elif _fusible(layer):
            hooks.append(layer.register_forward_pre_hook(before_norm))
    try:
        expected: Tensor = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    once = [(c, n) for c, n in pairs if calls[c] == calls[n] == 1]
    return expected, [(names[c], names[n]) for c, n in once]


def _fusible(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.BatchNorm2d) or layer.training or layer.running_mean is None:
        return False
    return type(layer) is nn.BatchNorm2d or {"drop", "act"} <= dict(layer.named_children()).keys()


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What is left of a fused layer: nothing, or the activation that timm keeps in the same module."""
    return nn.Sequential(*map(norm.get_submodule, ("drop", "act"))) if dict(norm.named_children()) else nn.Identity()
