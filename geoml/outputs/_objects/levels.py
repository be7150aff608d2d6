"""Which level of a pyramid finds which boxes: by the sizes in the training data, in the pixels of each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.io.cards.map_card import MapCard
from geoml.outputs._objects.tables import SIDES
from geoml.vector.boxes import LEVEL, take

SHARED = 0.75
"""Of the largest size that a level knows, from which on the next one tells of it too: sides of few pixels are known to
some tenths, and where a coarse level tells of much smaller things its worse box may take the place of a better one."""
Columns = Mapping[str, NDArray[np.number]]


def learnt(card: MapCard) -> tuple[float, float]:
    """Longer sides, in metres, of the smallest and the largest boxes that a network finds at the gsd of its card.

    By its training boxes, and no more than it sees at once; a card without a record of them says only that.
    """
    side = card.chip_size if card.radius is None else min(card.chip_size, 2 * card.radius + 1)
    sizes = card.detection.sizes if card.detection else None
    if sizes is None:
        return 0.0, side * card.gsd
    return min(sizes.least, sizes.seen), min(sizes.most, sizes.seen)


@dataclass(frozen=True)
class Level:
    """Pixels ``factor`` times as wide as those of the plane. All else is metres, of the longer sides of boxes:
    ``smallest`` to ``largest`` were learnt as large as that, and ``above`` to ``below`` are told of."""

    factor: int
    smallest: float
    largest: float
    above: float
    below: float

    def of(self, found: Columns, gsd: float) -> dict[str, NDArray[np.number]]:
        """The boxes in pixels of this level that it tells of, in pixels of the plane, with their `LEVEL`."""
        sides = {name: found[name].astype(np.float64) * self.factor for name in SIDES}
        # a pixel is known by its number, and its middle lies half a pixel further
        places = {axis: (found[axis].astype(np.float64) + 0.5) * self.factor - 0.5 for axis in "yx"}
        longer = gsd * np.maximum(sides["north"] + sides["south"], sides["west"] + sides["east"])
        every = {**found, **places, **sides, LEVEL: np.full(len(longer), float(self.factor))}
        return take(every, (longer > self.above) & (longer <= self.below))


def levels_of_sizes(card: MapCard, factors: Sequence[int]) -> dict[int, Level]:
    """The levels of a pyramid by factor, 1 first.

    A level begins a little below the largest that the one before it knows (`SHARED`), so that no box falls between two
    that measure it differently, and not below the smallest that it knows itself. What both find is suppressed. The
    finest tells of what is smaller than was learnt, the coarsest of what is larger, as a run without a pyramid does.
    """
    least, most = learnt(card)
    every = (1, *factors)
    above = {1: 0.0} | {k: max(least * k, SHARED * most * before) for before, k in pairwise(every)}
    below = {k: max(most * k, above[after]) for k, after in pairwise(every)} | {every[-1]: np.inf}
    return {k: Level(k, least * k, most * k, above[k], below[k]) for k in every}


def said(levels: Mapping[int, Level], gsd: float) -> list[dict[str, Any]]:
    """For ``run.json``: factor, gsd, and the sizes that were learnt so large, in metres."""
    return [
        {"factor": v.factor, "gsd": _short(gsd * v.factor), "least_m": _short(v.smallest), "most_m": _short(v.largest)}
        for v in levels.values()
    ]


def gaps(levels: Mapping[int, Level]) -> list[str]:
    """Sizes between those that two levels know."""
    return [
        f"pyramid: objects of {_short(a.largest):g} to {_short(b.smallest):g} m lie between what levels {a.factor} and"
        f" {b.factor} learnt; a factor between the two finds them"
        for a, b in pairwise(levels.values())
        if a.largest < b.smallest
    ]


def _short(metres: float) -> float:
    return float(f"{metres:.6g}")
