"""From the integers of a file to metres, by one division: a place has one number, whatever the offset of its file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

_WIDE = 2**62
_EXACT = 2**53


@dataclass(frozen=True)
class MetreAxis:
    """metres = (integer * ``step`` + ``start``) / ``parts``, exactly; None in ``parts`` where no int64 holds that."""

    scale: float
    offset: float
    factor: Fraction
    step: int
    start: int
    parts: int | None

    def metres(self, integers: NDArray[np.int32]) -> NDArray[np.float64]:
        """(n,) coordinates of the integers that the file holds, the floats nearest to what they mean."""
        if self.parts is None:
            return np.asarray((integers * self.scale + self.offset) * float(self.factor))
        return (integers.astype(np.int64) * self.step + self.start) / self.parts


def axis(scale: float, offset: float, factor: Fraction) -> MetreAxis:
    """An axis whose numbers are integer * ``scale`` + ``offset`` in units of ``factor`` metres.

    The scale and offset of a file are decimal numbers that binary ones only come near to: 0.01 is taken for 1/100.
    """
    step, start = Fraction(repr(scale)) * factor, Fraction(repr(offset)) * factor
    parts = int(np.lcm.reduce([step.denominator, start.denominator], dtype=object))
    one, first = int(step * parts), int(start * parts)
    fits = parts <= _EXACT and one * 2**31 + abs(first) < _WIDE
    return MetreAxis(scale, offset, factor, one, first, parts if fits else None)
