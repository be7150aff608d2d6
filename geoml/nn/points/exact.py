"""Layers whose answers are exact, so that they depend neither on the rows beside a row nor on the order of a sum.

A product of matrices of floats is rounded in an order that a library chooses by its shape, the number of threads and
the processor; the last bit of a row then depends on how many others there are, and now and then a class does. In eval
mode the values and the weights here are whole multiples of powers of two, few enough that float64 holds every product
and every sum of them (at most 2^46 of its 2^53): nothing is rounded, so any order gives the same bits.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

VALUE = 2.0**-12
"""Values are multiples of it; in eval mode they are passed on as these whole numbers, so no time goes into scaling."""
MOST = 2.0**6
"""Values lie from minus this to this."""
LARGEST = MOST / VALUE
WEIGHT = 2.0**-16
"""Weights are multiples of it, and lie within `MOST_WEIGHT`."""
MOST_WEIGHT = 2.0**4
MOST_INPUTS = 2**8
"""Of a layer: 6 + 12 bits of a value, 4 + 16 of a weight and 8 of the sum are 46."""
ROWS = 1 << 11
"""Of a product at a time, which keeps it in the cache; the answer does not depend on it."""


def held(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values within `MOST` as whole numbers of `VALUE`."""
    return values.div(VALUE).round_().clamp_(-LARGEST, LARGEST)


class ExactLayer(nn.Module):
    """Linear, batch normalisation and ReLU of rows, (n, ``inputs``) to (n, ``outputs``).

    float32 in training mode; float64 and exact in eval mode, where values come and go as whole numbers (`held`).
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
        return exact(x, *self._folded(), 0.0)

    def of_known(self, known: Float[Tensor, "known part"]) -> Float[Tensor, "known outputs"]:
        """In eval mode: what the first columns of a row bring to the sum, once for all rows that have them."""
        return known @ self._folded()[0][: known.shape[1]]

    def beside(
        self, brought: Float[Tensor, "known outputs"], which: Int[Tensor, " row"], own: Float[Tensor, "row rest"]
    ) -> Float[Tensor, "row outputs"]:
        """In eval mode: the layer of rows whose first columns are those of `of_known` and the last ones ``own``.

        It says what `forward` says of whole rows, bit for bit, since the sums are exact.
        """
        weight, bias = self._folded()
        rest = weight[-own.shape[1] :]
        out = own.new_empty(len(own), weight.shape[1])
        for at in range(0, len(own), ROWS):
            rows = out[at : at + ROWS]
            torch.index_select(brought, 0, which[at : at + ROWS], out=rows)
            rows.addmm_(own[at : at + ROWS], rest).add_(bias).round_().clamp_(0.0, LARGEST)
        return out

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Weights (inputs, outputs) and bias with the normalisation in them, on their grids."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        return _on_grid(self.linear.weight.double() * scale[:, None]), held(bias)


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
        return exact(x, _on_grid(self.linear.weight.double()), held(self.linear.bias.double()), -LARGEST)


def taken(rows: Float[Tensor, "row width"], which: Int[Tensor, " taken"]) -> Float[Tensor, "taken width"]:
    """``rows[which]``, with a gradient that several threads add up in one order, as that of an index does not."""
    return rows.index_select(0, which)


def exact(
    x: Float[Tensor, "row inputs"],
    weight: Float[Tensor, "inputs outputs"],
    bias: Float[Tensor, " outputs"],
    least: float,
) -> Float[Tensor, "row outputs"]:
    """``x @ weight + bias`` of whole numbers ``x`` and ``bias`` (`held`), rounded to whole numbers, at most `LARGEST`.

    All float64, the weights multiples of `WEIGHT`. ``least`` is the smallest answer: 0 makes a ReLU of it.
    """
    out = x.new_empty(len(x), weight.shape[1])
    for at in range(0, len(x), ROWS):
        rows = out[at : at + ROWS]
        torch.addmm(bias, x[at : at + ROWS], weight, out=rows)
        rows.round_().clamp_(least, LARGEST)
    return out


def _on_grid(weight: Tensor) -> Tensor:
    """Weights (outputs, inputs) as (inputs, outputs), rounded."""
    return weight.div(WEIGHT).round_().mul_(WEIGHT).clamp_(-MOST_WEIGHT, MOST_WEIGHT).T.contiguous()
