"""Which sizes an exported program admits along each axis of its input, from its dynamic-shape constraints."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

from geoml.engine.packages.archive import Unchecked
from geoml.errors import ModelError

UNBOUNDED = 2**31
"""torch writes a bound near the largest integer for no bound."""
LONGEST = 1000
"""Characters of a size."""
_SYMBOL = re.compile(r"s\d{1,6}", re.ASCII)


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
        """The smallest admitted size that is at least ``size``. Raises ModelError if all are smaller."""
        k = -(-(max(size, self.least) - self.offset) // self.step)
        admitted = self.step * k + self.offset
        if self.most is not None and admitted > self.most:
            raise ModelError(f"the program takes at most {self.most} along an axis, not {size}")
        return admitted


def axes(sizes: Sequence[Unchecked], ranges: Mapping[str, Unchecked]) -> tuple[Axis, Axis, Axis, Axis]:
    """Batch, bands, height and width of the input, from its sizes and the range constraints in a program's JSON.

    Raises ModelError for another number of axes, and for a size that is not a multiple of one free number plus a
    constant.
    """
    if len(sizes) != 4:
        raise ModelError(f"the program takes {len(sizes)} axes; expected (batch, bands, height, width)")
    bounds = {line: (one.get("min_val"), one.get("max_val")) for key, one in ranges.items() if (line := _line(key))}
    batch, bands, height, width = (_axis(size, bounds) for size in sizes)
    if height.symbol == width.symbol and height != width:
        raise ModelError(f"the program ties its height to another width ({height} and {width})")
    return batch, bands, height, width


class _Line(NamedTuple):
    """``step * symbol + offset``; no symbol for a plain number."""

    step: int
    offset: int
    symbol: str = ""


_Bounds = Mapping[_Line, tuple[int | None, int | None]]


def _axis(size: Mapping[str, Unchecked], bounds: _Bounds) -> Axis:
    if "as_int" in size:
        return Axis(_whole(size["as_int"]), _whole(size["as_int"]))
    text = size["as_expr"]["expr_str"]
    line = _line(text)
    if line is None or not line.symbol or line.step < 1:
        raise ModelError(
            f"the program has an axis of {str(text)[:80]}; expected a number, or multiples of one free number"
        )
    low, high = _bounds_of(bounds, _Line(1, 0, line.symbol))
    least, most = line.step * low + line.offset, None if high is None else line.step * high + line.offset
    if line != (1, 0, line.symbol):
        low, high = _bounds_of(bounds, line)
        least, most = max(least, low), min((v for v in (most, high) if v is not None), default=None)
    if most is not None and least > most:
        raise ModelError(f"the program admits no size along an axis of {text[:80]}")
    return Axis(max(least, 1), most, line.step, line.offset, line.symbol)


def _bounds_of(bounds: _Bounds, line: _Line) -> tuple[int, int | None]:
    low, high = bounds.get(line, (None, None))
    return (0 if low is None else _whole(max(low, 0))), (None if high is None or high >= UNBOUNDED else _whole(high))


def _whole(value: object) -> int:
    if type(value) is not int or abs(value) >= UNBOUNDED:
        raise ModelError(f"the program has a size of {str(value)[:40]}; expected a whole number below {UNBOUNDED}")
    return value


def _line(text: object) -> _Line | None:
    """A size as a line: sympy's ``Mul(Integer(2), Symbol('s0', …))`` or ``2*s0 + 1``, read and never evaluated.

    None for anything else.
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        return None
    try:
        line = _read(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return line if max(abs(line.step), abs(line.offset)) < UNBOUNDED else None


def _read(node: ast.expr) -> _Line:
    """A node of a size's text as a line. Raises ValueError for anything else."""
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return _Line(0, value)
        case ast.Name(id=name) if _SYMBOL.fullmatch(name):
            return _Line(1, 0, name)
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            return _read(number)
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]) if _SYMBOL.fullmatch(name):
            return _Line(1, 0, name)
        case ast.Call(func=ast.Name(id="Mul"), args=parts, keywords=[]):
            return reduce(_times, map(_read, parts), _Line(0, 1))
        case ast.Call(func=ast.Name(id="Add"), args=parts, keywords=[]):
            return reduce(_plus, map(_read, parts), _Line(0, 0))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _times(_read(left), _read(right))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _plus(_read(left), _read(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _plus(_read(left), _times(_Line(0, -1), _read(right)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _times(_Line(0, -1), _read(operand))
    raise ValueError("not a multiple of one free number plus a constant")


def _times(a: _Line, b: _Line) -> _Line:
    if a.symbol and b.symbol:
        raise ValueError("a product of free numbers")
    factor, line = (b.offset, a) if a.symbol else (a.offset, b)
    return _Line(factor * line.step, factor * line.offset, line.symbol)


def _plus(a: _Line, b: _Line) -> _Line:
    if a.symbol and b.symbol and a.symbol != b.symbol:
        raise ValueError("a sum of free numbers")
    return _Line(a.step + b.step, a.offset + b.offset, a.symbol or b.symbol)
