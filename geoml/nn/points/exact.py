"""Layers whose answers are exact, so that they depend neither on the rows beside a row nor on the order of a sum.

A product of matrices of floats is rounded in an order that a library chooses by its shape, the number of threads and
the processor; the last bit of a row then depends on how many others there are, and now and then a class does. In eval
mode the values and the weights here are whole multiples of powers of two, few enough that float64 holds every product
and every sum of them (at most 2^46 of its 2^53): nothing is rounded, so any order gives the same bits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

VALUE = 2.0**-12
"""Values are multiples of it."""
MOST = 2.0**6
"""Values lie from minus this to this."""
WEIGHT = 2.0**-16
"""Weights are multiples of it, and lie within `MOST_WEIGHT`."""
MOST_WEIGHT = 2.0**4
MOST_INPUTS = 2**8
"""Of a layer: 6 + 12 bits of a value, 4 + 16 of a weight and 8 of the sum are 46."""
ROWS = 1 << 14
"""Of a product at a time, which keeps it in the cache; the answer does not depend on it."""


def held(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values on the grid of `VALUE`, within `MOST`."""
    return values.div(VALUE).round_().mul_(VALUE).clamp_(-MOST, MOST)


class ExactLayer(nn.Module):
    """Linear, batch normalisation and ReLU of rows, (n, ``inputs``) to (n, ``outputs``).

    float32 in training mode; float64 and exact in eval mode, where values have to be on the grid (`held`).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert inputs <= MOST_INPUTS
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs, momentum=0.05)

    def forward(self, x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row outputs"]:
        if self.training:
            out: Tensor = nn.functional.hardtanh(self.norm(self.linear(x)), 0.0, MOST)
            return out
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        return exact(x, self.linear.weight.double() * scale[:, None], bias, 0.0)


class ExactOutput(nn.Module):
    """Linear with a bias, the last layer: (n, ``inputs``) to (n, ``outputs``); as `ExactLayer` otherwise."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert inputs <= MOST_INPUTS
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row outputs"]:
        if self.training:
            out: Tensor = self.linear(x)
            return out
        return exact(x, self.linear.weight.double(), self.linear.bias.double(), -MOST)


def exact(
    x: Float[Tensor, "row inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"],
    least: float,
) -> Float[Tensor, "row outputs"]:
    """``x @ weight.T + bias`` of float64, weights and bias rounded to their grids, and the answer to that of values.

    ``least`` is the smallest answer: 0 makes a ReLU of it.
    """
    weight = weight.div(WEIGHT).round_().mul_(WEIGHT).clamp_(-MOST_WEIGHT, MOST_WEIGHT).T.contiguous()
    bias = held(bias)
    out = x.new_empty(len(x), weight.shape[1])
    for at in range(0, len(x), ROWS):
        rows = out[at : at + ROWS]
        torch.addmm(bias, x[at : at + ROWS], weight, out=rows)
        rows.div_(VALUE).round_().mul_(VALUE).clamp_(least, MOST)
    return out
