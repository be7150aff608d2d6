"""Chips: the windows a model sees, on one lattice of the plane for every block.

Because the lattice is anchored to the plane and not to a block, a pixel is always computed from the same chips,
whatever the block size or the request: no seam can appear where blocks meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoml.errors import InputError
from geoml.grid.plane import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CORE = 1024
"""Core of chips with a halo. It divides blocks of 1024, 2048 and 4096, so that a run has chips of one shape (each new
shape costs a CPU's kernels time and memory), and it is so wide that a halo of 128 costs little more than half again.
"""


@dataclass(frozen=True, slots=True)
class ChipGrid:
    """A lattice of square chips of ``size`` pixels whose starts are ``step`` apart.

    With ``halo`` > 0 each chip keeps only its core: chip ``k`` starts at ``k * step - halo``, its core is the
    ``step`` pixels in the middle, cores tile the plane exactly (``size == step + 2 * halo``). With ``halo == 0``
    and ``step < size`` chips overlap and are blended. Starts are multiples of ``stride`` (of the network).
    ``whole`` chips are never trimmed, doubled or halved: their halo is less than the network sees, so that an answer
    hangs on where its core ends.
    """

    size: int
    step: int
    halo: int = 0
    stride: int = 1
    whole: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.step < 1 or self.halo < 0 or self.stride < 1:
            raise InputError(f"chips: size {self.size}, step {self.step}, halo {self.halo}, stride {self.stride}")
        if self.step > self.size:
            raise InputError(f"chips: step {self.step} leaves gaps between chips of {self.size}")
        if self.halo and self.size != self.step + 2 * self.halo:
            raise InputError(f"chips: size {self.size} is not step {self.step} + 2 x halo {self.halo}")
        for name, value in (("size", self.size), ("step", self.step), ("halo", self.halo)):
            if value % self.stride:
                raise InputError(f"chips: {name} {value} is not a multiple of the network's stride {self.stride}")

    @property
    def exact(self) -> bool:
        """True when chips keep a core (halo), False when they are blended."""
        return self.halo > 0 or self.step == self.size

    def doubled(self) -> ChipGrid:
        """Cores twice as wide with the same halo: that changes the cost of exact chips, and not the answer."""
        return ChipGrid(2 * self.step + 2 * self.halo, 2 * self.step, self.halo, self.stride)

    def chip(self, iy: int, ix: int) -> Window:
        """What the model sees of chip (``iy``, ``ix``)."""
        y, x = iy * self.step - self.halo, ix * self.step - self.halo
        return Window(y, x, y + self.size, x + self.size)

    def output_window(self, iy: int, ix: int) -> Window:
        """The pixels that the chip contributes to: its core, or all of it when chips are blended."""
        return self.chip(iy, ix).expand(-self.halo)

    def rows(self, window: Window) -> Iterator[list[tuple[int, int]]]:
        """Chip indices whose output windows touch ``window``, one list for each row of chips, top to bottom."""
        reach = self.size - 2 * self.halo  # of the output windows, which start at k * step
        first_y, first_x = (window.y0 - reach) // self.step + 1, (window.x0 - reach) // self.step + 1
        for iy in range(first_y, -(-window.y1 // self.step)):
            yield [(iy, ix) for ix in range(first_x, -(-window.x1 // self.step))]

    def input_window(self, window: Window) -> Window:
        """The input window that holds every chip that touches ``window``."""
        chips = [self.chip(*k) for row in self.rows(window) for k in (row[0], row[-1])]
        return Window(chips[0].y0, chips[0].x0, chips[-1].y1, chips[-1].x1)


def exact_grid(chip_size: int, radius: int, stride: int, core: int = CORE) -> ChipGrid:
    """Halo and core for a network that sees at most ``radius`` pixels around each output pixel.

    The halo is the radius rounded up to the stride. The core is ``core`` pixels, or what ``chip_size`` leaves of a
    larger chip; its size changes the cost and not the answer, for the halo makes it exact.
    """
    halo = -(-radius // stride) * stride
    core = max(max(core, chip_size - 2 * halo) // stride, 1) * stride
    return ChipGrid(core + 2 * halo, core, halo, stride)


def blended_grid(chip_size: int, overlap: int, stride: int) -> ChipGrid:
    """Overlapping chips for a model whose output depends on the whole chip; the overlap is rounded up to the stride."""
    overlap = -(-overlap // stride) * stride
    if overlap >= chip_size:
        raise InputError(f"overlap: {overlap} leaves nothing of a chip of {chip_size}")
    return ChipGrid(chip_size, chip_size - overlap, 0, stride)


def blend_window(name: str, size: int) -> NDArray[np.float32]:
    """(size, size) float32 weights, all above zero: ``hann``, ``triangle`` or ``flat``, sampled at pixel centres."""
    import numpy as np  # which a card and a lattice do without

    t = (np.arange(size) + 0.5) / size
    edges = {"hann": np.sin(np.pi * t) ** 2, "triangle": 1 - np.abs(2 * t - 1), "flat": np.ones(size)}
    if name not in edges:
        raise InputError(f"window: {name!r} is not known; expected one of {', '.join(edges)}")
    weights: NDArray[np.float32] = np.outer(edges[name], edges[name]).astype(np.float32)
    assert weights.min() > 0
    return weights
