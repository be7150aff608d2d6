"""Checks and changes of an ONNX file before its operators are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

KEEP = frozenset({"Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Slice"})
"""Operators that move values and do not mix them: whether logits or probabilities pass through is all the same."""
LOGITS = {"Sigmoid": "Identity", "Softmax": "LogSoftmax"}
"""By the operator that gives probabilities, the one that gives logits in its place."""


def all_tensors(message: Any) -> Iterator[Any]:
    """Every tensor with values in a message of ONNX: initializers, sparse ones, attributes, inner graphs, functions."""
    left = [message]
    while left:
        one = left.pop()
        if one.DESCRIPTOR.name == "TensorProto":
            yield one
            continue
        for field, value in one.ListFields():
            if field.message_type is not None:
                left += [value] if hasattr(value, "DESCRIPTOR") else list(value)


def in_single(model: Any) -> bool:
    """Have a model of half precision compute in single, with weights of the same values; False where none is half.

    ONNX Runtime rounds to half after each operator and no two processors do so alike, so there is nothing to equal.
    """
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    changed = False
    for tensor in all_tensors(model):
        if tensor.data_type == half:
            values = onnx.numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            changed = True
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i, changed = single, True
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type, changed = single, True
    return changed


def gives_logits(model: Any) -> str | None:
    """Have a model end in logits where it ends in probabilities; the operator that made them, None if none does.

    Operators that only move values may follow. What else follows, or else uses the probabilities, leaves all as it is.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    used = [name for node in model.graph.node for name in node.input] + [o.name for o in model.graph.output]
    name = model.graph.output[0].name
    for _ in model.graph.node:
        node = made.get(name)
        if node is None or used.count(name) != 1 or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in LOGITS:
            kind: str = node.op_type
            node.op_type = LOGITS[kind]
            return kind
        if node.op_type not in KEEP:
            return None
        name = node.input[0]
    return None


def chances(logits: Tensor, kind: str) -> Tensor:
    """What the operator ``kind`` makes of what stands in its place."""
    return torch.sigmoid(logits) if kind == "Sigmoid" else torch.exp(logits)
