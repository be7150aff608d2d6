"""Operators of ONNX as torch computes them, by name: those that networks of pixels are exported to.

The meaning of each: https://onnx.ai/onnx/operators/. Names of values are keys and nothing of a file is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FLOAT = 1
"""float32, as ONNX numbers its types."""
Attributes = Mapping[str, Any]
Step = Callable[..., Any]
"""``step(attributes, *inputs)``; an input is a tensor, None if it is left out."""


class Unknown(Exception):
    """What is not computed here, in words."""


def numbers(value: Tensor | None) -> list[Any]:
    """The values of a constant: sizes, axes, scales. Raises Unknown for what is computed from the input."""
    if value is None:
        return []
    found: list[Any] | None = getattr(value, "small", None)
    if found is None:
        raise Unknown("sizes that hang on the input")
    return found


def _pads(attributes: Attributes, x: Tensor, kernel: Sequence[int], fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """The padding as torch's layers take it; where its sides differ the input is padded here."""
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        if any(s != 1 for s in attributes.get("strides", [1, 1])):
            raise Unknown(f"auto_pad {mode.decode()} with strides")
        total = [(k - 1) * d for k, d in zip(kernel, attributes.get("dilations", [1, 1]), strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*small, *large] if mode == b"SAME_UPPER" else [*large, *small]
    else:
        pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if len(pads) != 4:
        raise Unknown("layers of other than two dimensions")
    if pads[:2] == pads[2:]:
        return x, pads[:2]
    return F.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=fill), [0, 0]


def _conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, pad = _pads(a, x, weight.shape[2:])
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    return F.conv2d(x, weight, bias, stride, pad, dilation, a.get("group", 1))


def _deconv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    pads = list(a.get("pads", [0, 0, 0, 0]))
    if a.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in a or pads[:2] != pads[2:]:
        raise Unknown("ConvTranspose with automatic or uneven padding")
    more, dilation = a.get("output_padding", [0, 0]), a.get("dilations", [1, 1])
    return F.conv_transpose2d(x, weight, bias, a.get("strides", [1, 1]), pads[:2], more, a.get("group", 1), dilation)


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    x, pad = _pads(a, x, kernel, float("-inf"))
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    return F.max_pool2d(x, kernel, stride, pad, dilation, ceil_mode=bool(a.get("ceil_mode", 0)))


def _avg_pool(a: Attributes, x: Tensor) -> Tensor:
    pads = list(a.get("pads", [0, 0, 0, 0]))
    if a.get("auto_pad", b"NOTSET") != b"NOTSET" or pads[:2] != pads[2:]:
        raise Unknown("AveragePool with uneven padding")
    inner = bool(a.get("count_include_pad", 0))
    return F.avg_pool2d(x, a["kernel_shape"], a.get("strides", [1, 1]), pads[:2], bool(a.get("ceil_mode", 0)), inner)


def _norm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, a.get("epsilon", 1e-5))


def _layer_norm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], weight, bias, a.get("epsilon", 1e-5))


def _instance_norm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=a.get("epsilon", 1e-5))


def _resize(a: Attributes, x: Tensor, _roi: Tensor | None = None, *sizes: Tensor | None) -> Tensor:
    how = a.get("coordinate_transformation_mode", b"half_pixel").decode()
    mode = a.get("mode", b"nearest").decode()
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    known = {"linear": ("half_pixel", "pytorch_half_pixel", "align_corners"), "nearest": ("asymmetric",)}
    known["cubic"] = known["linear"]
    if how not in known.get(mode, ()) or (mode == "nearest" and a.get("nearest_mode") != b"floor"):
        raise Unknown(f"Resize by {mode}, {how}")
    if mode == "cubic" and abs(a.get("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
        raise Unknown("Resize by cubic with another coefficient than -0.75")
    factors, target = (numbers(s) for s in (*sizes, None, None)[:2])
    corners = None if mode == "nearest" else how == "align_corners"
    if target:
        return F.interpolate(x, size=[int(n) for n in target[2:]], mode=names[mode], align_corners=corners)
    return F.interpolate(x, scale_factor=factors[2:], mode=names[mode], align_corners=corners)


def _upsample(a: Attributes, x: Tensor, scales: Tensor | None = None) -> Tensor:
    rules = {"nearest_mode": b"floor", "coordinate_transformation_mode": b"asymmetric"}
    return _resize({**a, **rules}, x, None, scales)


def _pad(a: Attributes, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, *_: Any) -> Tensor:
    given = numbers(pads) or list(a.get("pads", ()))
    half = len(given) // 2
    torchs = [int(n) for k in reversed(range(half)) for n in (given[k], given[k + half])]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(a.get("mode", b"constant").decode())
    if mode is None:
        raise Unknown(f"Pad by {a['mode'].decode()}")
    if mode == "constant":
        return F.pad(x, torchs, value=(numbers(value) or [a.get("value", 0.0)])[0])
    if any(torchs[4:]):
        raise Unknown("Pad of channels by their edge")
    return F.pad(x, torchs[:4], mode=mode)


def _slice(_: Attributes, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (numbers(v) for v in (*given, None, None)[:4])
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = int(axes[k]) if axes else k
        step = int(steps[k]) if steps else 1
        if step < 1:
            raise Unknown("Slice backwards")
        part = [slice(None)] * x.ndim
        part[axis] = slice(int(start), min(int(end), 2**62), step)
        x = x[tuple(part)]
    return x


def _split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
    axis = a.get("axis", 0)
    lengths = [int(n) for n in numbers(sizes) or a.get("split", ())]
    return list(torch.split(x, lengths or x.shape[axis] // a["outputs"], axis))


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    if a.get("allowzero", 0):
        raise Unknown("Reshape with allowzero")
    return x.reshape([x.shape[k] if n == 0 else int(n) for k, n in enumerate(numbers(shape))])


def _reduced(run: Callable[..., Tensor]) -> Step:
    def step(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
        over = [int(n) for n in numbers(axes) or a.get("axes", ())] or list(range(x.ndim))
        return run(x, over, keepdim=bool(a.get("keepdims", 1)))

    return step


def _gemm(a: Attributes, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    x, y = (v.T if a.get(k, 0) else v for v, k in ((x, "transA"), (y, "transB")))
    found: Tensor = a.get("alpha", 1.0) * (x @ y)
    return found if bias is None else found + a.get("beta", 1.0) * bias


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    bounds = [(numbers(v) or [a.get(k)])[0] for v, k in ((low, "min"), (high, "max"))]
    return torch.clamp(x, *bounds) if any(b is not None for b in bounds) else x


def _shuffle(a: Attributes, x: Tensor) -> Tensor:
    if a.get("mode", b"DCR") != b"CRD":
        raise Unknown("DepthToSpace by DCR")
    return F.pixel_shuffle(x, a["blocksize"])


def _same(_: Attributes, x: Tensor, *__: Any) -> Tensor:
    return x


def _cast(a: Attributes, x: Tensor) -> Tensor:
    if a.get("to") != FLOAT:
        raise Unknown(f"Cast to type {a.get('to')} of ONNX")
    return x.float()


def _squeeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze(tuple(int(n) for n in numbers(axes) or a.get("axes", ())))


def _unsqueeze(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    for axis in sorted(int(n) for n in numbers(axes) or a.get("axes", ())):
        x = x.unsqueeze(axis)
    return x


STEPS: Mapping[str, Step] = {
    "Conv": _conv, "ConvTranspose": _deconv, "MaxPool": _max_pool, "AveragePool": _avg_pool,
    "BatchNormalization": _norm, "LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm,
    "Resize": _resize, "Upsample": _upsample, "Pad": _pad, "Slice": _slice, "Split": _split, "Reshape": _reshape,
    "Gemm": _gemm, "Clip": _clip, "DepthToSpace": _shuffle, "Identity": _same, "Dropout": _same,
    "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Cast": _cast,
    "GlobalAveragePool": lambda _, x: x.mean((2, 3), keepdim=True),
    "GlobalMaxPool": lambda _, x: x.amax((2, 3), keepdim=True),
    "ReduceMean": _reduced(torch.mean), "ReduceSum": _reduced(torch.sum), "ReduceMax": _reduced(torch.amax),
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Transpose": lambda a, x: x.permute(a.get("perm") or list(range(x.ndim))[::-1]),
    "Flatten": lambda a, x: x.reshape(math.prod(x.shape[: a.get("axis", 1)]), -1),
    "MatMul": lambda _, x, y: x @ y,
    "Add": lambda _, x, y: x + y, "Sub": lambda _, x, y: x - y, "Mul": lambda _, x, y: x * y,
    "Div": lambda _, x, y: x / y, "Pow": lambda _, x, y: torch.pow(x, y), "Sqrt": lambda _, x: x.sqrt(),
    "Exp": lambda _, x: x.exp(), "Log": lambda _, x: x.log(), "Abs": lambda _, x: x.abs(), "Neg": lambda _, x: -x,
    "Min": lambda _, x, y: torch.minimum(x, y), "Max": lambda _, x, y: torch.maximum(x, y),
    "Relu": lambda _, x: F.relu(x), "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)), "PRelu": lambda _, x, w: F.prelu(x, w.flatten()),
    "Sigmoid": lambda _, x: x.sigmoid(), "Tanh": lambda _, x: x.tanh(), "Erf": lambda _, x: torch.erf(x),
    "Softplus": lambda _, x: F.softplus(x), "HardSwish": lambda _, x: F.hardswish(x), "Mish": lambda _, x: F.mish(x),
    "HardSigmoid": lambda a, x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "LogSoftmax": lambda a, x: torch.log_softmax(x, a.get("axis", -1)),
}  # fmt: skip
"""By the name of the operator."""
