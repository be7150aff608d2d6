"""How well a place is known again at another date: tiles of one date, asked with pictures of another.

Tiles lie 3/8 of their side apart; an answer is right when its middle is within a quarter of the side of the picture's
(R@1, Arandjelovic et al. 2016, https://arxiv.org/abs/1511.07247, with tiles for photos).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from geoml.errors import NothingFound
from geoml.geolocation.training.contrastive import crop, embed, turned
from geoml.geolocation.training.positives import Ground

STEP, RIGHT = 3 / 8, 1 / 4
TRIES = 50
"""Places that are drawn for each query that is wanted; the others are not known at both dates."""


@dataclass(frozen=True)
class Recall:
    """How many of ``queries`` each model answers ``right``; ``near`` of all their pairs with ``tiles`` would be."""

    right: tuple[int, ...]
    near: int
    tiles: int
    queries: int

    @property
    def found(self) -> tuple[float, ...]:
        """Share of the queries that each model answers right."""
        return tuple(right / self.queries for right in self.right)

    @property
    def chance(self) -> float:
        """Share that is right of tiles by lot: what doing nothing scores."""
        return self.near / (self.tiles * self.queries)


class RecallScores:
    """R@1 of one model between two dates, by the heading of the pictures that ask; only counts are kept."""

    key: ClassVar[str] = "any_heading"
    larger_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.counts: dict[str, NDArray[np.int64]] = {h: np.zeros(4, np.int64) for h in ("north_up", "any_heading")}
        """By heading: right answers, queries, pairs that are near, pairs."""

    def update(self, heading: str, found: Recall) -> None:
        """Add what one model answered."""
        (right,) = found.right
        self.counts[heading] += (right, found.queries, found.near, found.tiles * found.queries)

    def merge(self, other: RecallScores) -> None:
        """Add the counts of another part."""
        for heading, counts in other.counts.items():
            self.counts[heading] += counts

    def compute(self) -> dict[str, Any]:
        """``north_up``, ``any_heading``, ``chance`` and ``queries`` (of any heading); None of what was not asked."""
        shares = {h: int(c[0]) / int(c[1]) if c[1] else None for h, c in self.counts.items()}
        _, queries, near, pairs = (int(n) for n in self.counts["any_heading"])
        return {**shares, "chance": near / pairs if pairs else None, "queries": queries}


def recall(
    models: Sequence[nn.Module],
    ground: Ground,
    dates: tuple[int, int],
    side: int,
    count: int,
    *,
    turn: bool,
    seed: int = 1,
) -> Recall:
    """Ask ``dates[0]`` with ``count`` pictures of ``dates[1]``, in any heading with ``turn``, else north up.

    Models take (B, 3, side, side) RGB in 0..1. In any heading the tiles are turned by quarters. Raises NothingFound
    for a ground with no tile or no picture that both dates know.
    """
    reference, asked = dates
    height, width = ground.known.shape[1:]
    ys, xs = (np.arange(side / 2, n - side / 2 + 1e-9, round(STEP * side)) for n in (height, width))
    tiles = np.array([(y, x) for y in ys for x in xs if ground.seen(y, x, side / 2)[reference]])
    rng = np.random.default_rng(seed)
    edge = side / math.sqrt(2) if turn else side / 2
    places: list[np.ndarray] = []
    if edge <= min(height, width) - edge:
        for _ in range(TRIES * count):
            place = rng.uniform((edge, edge), (height - edge, width - edge))
            if ground.seen(float(place[0]), float(place[1]), side / 2)[list(dates)].all():
                places.append(place)
            if len(places) == count:
                break
    if not len(tiles) or not places:
        raise NothingFound(f"recall: nothing of {side} pixels that dates {reference} and {asked} both know")
    at = np.array(places)
    angles = rng.uniform(0, math.tau, len(at)) * turn
    gallery = np.stack([crop(ground.pictures[reference], y, x, side) for y, x in tiles])
    queries = np.stack([crop(ground.pictures[asked], y, x, side, a) for (y, x), a in zip(at, angles, strict=True)])
    near = np.hypot(*np.moveaxis(tiles[None] - at[:, None], -1, 0)) <= RIGHT * side
    found = []
    for model in models:
        known = turned(model, gallery) if turn else embed(model, gallery)[:, None]
        best = np.einsum("qd,gtd->qgt", embed(model, queries), known).max(-1).argmax(1)
        found.append(int(near[np.arange(len(at)), best].sum()))
    return Recall(tuple(found), int(near.sum()), len(tiles), len(at))
