"""Which sizes an exported program admits along each axis of its input, from its dynamic-shape constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from geoml.errors import ModelError

UNBOUNDED = 2**31
"""torch writes a bound near the largest integer where there is none."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Admitted are the sizes ``step * k + offset`` from ``least`` to ``most`` (None: no limit).

    ``symbol`` names ``k``: axes of one symbol change together. Without a symbol only ``least`` is admitted.
    """

    least: int
    most: int | None
    step: int = 1
    offset: int = 0
    symbol: str | None = None

    @property
    def fixed(self) -> int | None:
        return self.least if self.symbol is None else None

    def above(self, size: int) -> int:
        """The smallest admitted size that is at least ``size``. Raises ModelError where all are smaller."""
        k = -(-(max(size, self.least) - self.offset) // self.step)
        found = self.step * k + self.offset
        if self.most is not None and found > self.most:
            raise ModelError(f"the program takes at most {self.most} along an axis, not {size}")
        return found


def axes(program: torch.export.ExportedProgram) -> tuple[Axis, Axis, Axis, Axis]:
    """Batch, bands, height and width of the only input.

    Raises ModelError for other inputs, and for a size that is no multiple of one free number plus a constant.
    """
    names = program.graph_signature.user_inputs
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(f"the program has inputs {list(names)}; expected one of shape (batch, bands, height, width)")
    batch, bands, height, width = (_axis(size, program.range_constraints) for size in shapes[0])
    if height.symbol == width.symbol and height != width:
        raise ModelError(f"the program ties its height to another width ({shapes[0][2]} and {shapes[0][3]})")
    return batch, bands, height, width


def _axis(size: Any, ranges: Any) -> Axis:
    if isinstance(size, int):
        return Axis(size, size)
    expression = size.node.expr
    symbols = list(expression.free_symbols)
    if len(symbols) != 1:
        raise ModelError(f"the program has an axis of {expression}; expected a number, or multiples of one free number")
    at = [int(expression.subs(symbols[0], k)) for k in (0, 1, 7, 1000)]
    step, offset = at[1] - at[0], at[0]
    if step < 1 or at[2:] != [7 * step + offset, 1000 * step + offset]:
        raise ModelError(f"the program has an axis of {expression}; expected a number, or multiples of one free number")
    low, high = _bounds(ranges, symbols[0])
    least, most = step * low + offset, None if high is None else step * high + offset
    if expression != symbols[0]:
        low, high = _bounds(ranges, expression)
        least, most = max(least, low), min((v for v in (most, high) if v is not None), default=None)
    if most is not None and least > most:
        raise ModelError(f"the program admits no size along an axis of {expression}")
    return Axis(max(least, 1), most, step, offset, str(symbols[0]))


def _bounds(ranges: Any, key: Any) -> tuple[int, int | None]:
    if key not in ranges:
        return 0, None
    low, high = float(ranges[key].lower), float(ranges[key].upper)
    return (int(low) if math.isfinite(low) else 0), (int(high) if high < UNBOUNDED else None)
