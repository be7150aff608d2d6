"""The operators that an exported program may contain, by name: those of exported segmentation networks.

Not here, and so refused: what opens files, makes empty or foreign memory, sees memory by strides, draws random numbers,
changes its arguments (but for activations and sums on values made in the graph), or takes code, text or objects. New
operators of a new torch are not here either. ``tests/unit/engine/packages/test_operators.py`` walks all that torch has.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch


def _aten(names: str) -> frozenset[str]:
    """``relu`` for ``torch.ops.aten.relu.default``; ``add:Tensor,Scalar`` for two overloads of one operator."""
    targets = set()
    for word in names.split():
        name, _, overloads = word.partition(":")
        targets |= {f"torch.ops.aten.{name}.{overload}" for overload in (overloads or "default").split(",")}
    return frozenset(targets)


VIEWS = _aten("""
    _unsafe_view broadcast_to channel_shuffle chunk contiguous expand expand_as flatten:using_ints
    meshgrid:default,indexing moveaxis:int,intlist movedim:int,intlist narrow pad permute pixel_shuffle
    pixel_unshuffle reshape select:int slice:Tensor split:Tensor split_with_sizes squeeze:default,dim,dims swapaxes
    t tile to:dtype,dtype_layout,device,other transpose:int type_as unbind:int unflatten:int unsqueeze view view_as
""")
"""Their results may share memory with their arguments; all of them check sizes and places."""

IN_PLACE = _aten("""
    add_:Tensor,Scalar sub_:Tensor,Scalar mul_:Tensor,Scalar celu_ elu_ gelu_ hardsigmoid_ hardswish_ hardtanh_
    leaky_relu_ mish_ relu6_ relu_ selu_ sigmoid_ silu_ tanh_ threshold_
""")
"""Activations, sums and gates that change their first argument, which has to be made in the graph."""

NEW = _aten("""
    abs add:Tensor,Scalar sub:Tensor,Scalar mul:Tensor,Scalar div:Tensor,Scalar,Tensor_mode rsub:Scalar,Tensor neg
    pow:Tensor_Scalar,Tensor_Tensor square sqrt rsqrt reciprocal exp expm1 log log1p sin cos atan2 floor ceil round sign
    floor_divide fmod:Scalar remainder:Scalar,Tensor nan_to_num minimum maximum clamp:default,Tensor clamp_min clamp_max
    eq:Scalar,Tensor ne:Scalar,Tensor ge:Scalar,Tensor gt:Scalar,Tensor le:Scalar,Tensor lt:Scalar,Tensor
    logical_and logical_or logical_not logical_xor bitwise_and:Tensor bitwise_or:Tensor bitwise_not
    where:self,ScalarSelf,ScalarOther,Scalar masked_fill:Scalar,Tensor isnan isinf
    mean:default,dim sum:default,dim_IntList prod:dim_int amax amin max:default,dim min:default,dim argmax argmin
    any:dim all:dim var:correction,dim std:correction,dim var_mean:correction cumsum
    norm:ScalarOpt_dim linalg_vector_norm
    multiply:Tensor subtract:Tensor divide:Tensor addcmul outer tril triu logsumexp
    matmul mm bmm addmm baddbmm linear scaled_dot_product_attention
    conv1d conv2d:default,padding conv3d conv_transpose2d:input convolution im2col
    batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit:no_stats group_norm native_group_norm
    instance_norm layer_norm native_layer_norm rms_norm
    avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices max_unpool2d adaptive_avg_pool2d
    _adaptive_avg_pool2d adaptive_max_pool2d
    upsample_nearest2d:default,vec _upsample_nearest_exact2d:default,vec upsample_bilinear2d:default,vec
    upsample_bicubic2d:default,vec
    relu relu6 leaky_relu elu selu celu silu mish gelu hardswish hardsigmoid hardtanh threshold prelu _prelu_kernel
    softplus log_sigmoid tanh sigmoid glu hardshrink softshrink erf softmax:int _softmax log_softmax:int _log_softmax
    cat concat stack clone copy _to_copy lift_fresh_copy constant_pad_nd reflection_pad2d replication_pad2d
    slice_scatter repeat roll flip rot90 index:Tensor index_select gather embedding one_hot
    zeros ones full arange:default,start,start_step linspace scalar_tensor zeros_like ones_like full_like new_zeros
    new_ones new_full sym_size:int sym_numel
""")
"""Their results are new tensors."""

ALLOWED = VIEWS | IN_PLACE | NEW

IDENTITY = _aten("""
    alias detach detach_ alpha_dropout alpha_dropout_ dropout dropout_ feature_alpha_dropout feature_dropout
    feature_dropout_
""")
"""For training only: the result is the first argument; with ``train`` true a step is refused."""

NOTHING = "torch.ops.aten.empty.memory_format"
"""Uninitialised memory, unless the size holds a zero: so encoders give features without channels."""

ZEROS = "torch.ops.aten.zeros.default"

SKIPPED = _aten("_assert_tensor_metadata sym_constrain_range_for_size sym_constrain_range")
"""They compute nothing and record what was true at the export."""

HOLDS = "torch.ops.aten._assert_scalar.default"


def _holds(value: object) -> tuple[()]:
    if not value:
        raise ValueError("an assertion of the program does not hold")
    return ()


def _power(base: float, exponent: float) -> float:
    """A small power: nothing that takes time."""
    if not (abs(base) < 2**32 and abs(exponent) <= 8):
        raise ValueError("a power without bound")
    power: float = base**exponent
    return power


NUMBERS: Mapping[str, Callable[..., object]] = {
    "_operator.add": operator.add,
    "_operator.sub": operator.sub,
    "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv,
    "_operator.truediv": operator.truediv,
    "_operator.mod": operator.mod,
    "_operator.neg": operator.neg,
    "_operator.pow": _power,
    "_operator.eq": operator.eq,
    "_operator.ne": operator.ne,
    "_operator.ge": operator.ge,
    "_operator.gt": operator.gt,
    "_operator.le": operator.le,
    "_operator.lt": operator.lt,
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
    "math.trunc": math.trunc,
    "torch.sym_float": float,
    "torch.sym_int": int,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
    HOLDS: _holds,
}
"""Arithmetic of sizes, on numbers; no shifts, whose results have no bound."""

_WORDS: Mapping[str, frozenset[str]] = {
    "approximate": frozenset({"none", "tanh"}),
    "indexing": frozenset({"ij", "xy"}),
    "mode": frozenset({"constant", "reflect", "replicate", "circular"}),
    "padding": frozenset({"same", "valid"}),
    "rounding_mode": frozenset({"floor", "trunc"}),
}
"""The texts that arguments may be, by the name of the argument."""

_ONLY: Mapping[str, object] = {
    "dropout_p": 0.0,
    "non_blocking": False,  # a copy that is not waited for shows what lay there before
    "pin_memory": None,
    "training": False,  # else it would draw, or change the running statistics
    "use_input_stats": True,
}
"""Arguments that have one value only."""


def fits(target: str, name: str, value: object) -> bool:
    """Whether an allowed operator may have this value of an argument, whose type is right."""
    if isinstance(value, str):
        return value in _WORDS.get(name, ())
    if name in ("running_mean", "running_var") and target == "torch.ops.aten.instance_norm.default":
        return value is None  # it would change them
    if name == "training" and target == "torch.ops.aten._native_batch_norm_legit.no_stats":
        return value is True  # there are none to change
    return name not in _ONLY or value == _ONLY[name] or (name == "pin_memory" and value is False)


def find(target: str) -> Any:
    """The operator of an allowed name."""
    _, _, _, name, overload = target.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)
