"""How well a place is known again at another date: tiles of one date, asked with pictures of another.

Tiles lie 3/8 of their side apart; an answer is right when its middle is within a quarter of the side of the picture's
(R@1, Arandjelovic et al. 2016, https://arxiv.org/abs/1511.07247, with tiles for photos).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geoml.errors import NothingFound
from geoml.geolocation.training.contrastive import crop, embed, embed_quarters
from geoml.geolocation.training.positives import DateStack

STEP, RIGHT = 3 / 8, 1 / 4
TRIES = 50
"""Places that are drawn for each query that is wanted; the others are not valid at both dates."""


@dataclass(frozen=True)
class Recall:
    """How many of ``queries`` are answered ``right``; ``near`` of all their pairs with ``tiles`` would be."""

    right: int
    near: int
    tiles: int
    queries: int

    @property
    def at_1(self) -> float:
        """R@1, the share of the queries that are answered right."""
        return self.right / self.queries

    @property
    def chance(self) -> float:
        """Share that is right of tiles by lot: what doing nothing scores."""
        return self.near / (self.tiles * self.queries)


class RecallScores:
    """R@1 between two dates, by the heading of the pictures that ask; only counts are kept."""

    key: ClassVar[str] = "any_heading"
    larger_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self.counts: dict[str, NDArray[np.int64]] = {h: np.zeros(4, np.int64) for h in ("north_up", "any_heading")}
        """By heading: right answers, queries, pairs that are near, pairs."""

    def update(self, heading: str, recall: Recall) -> None:
        """Add the answers to queries in a heading."""
        self.counts[heading] += (recall.right, recall.queries, recall.near, recall.tiles * recall.queries)

    def merge(self, other: RecallScores) -> None:
        """Add the counts of another part."""
        for heading, counts in other.counts.items():
            self.counts[heading] += counts

    def compute(self) -> dict[str, float | int | None]:
        """``north_up``, ``any_heading``, ``chance`` and ``queries`` (of any heading); None of what was not asked."""
        shares = {h: int(c[0]) / int(c[1]) if c[1] else None for h, c in self.counts.items()}
        _, queries, near, pairs = (int(n) for n in self.counts["any_heading"])
        return {**shares, "chance": near / pairs if pairs else None, "queries": queries}


def recall(
    model: nn.Module, stack: DateStack, dates: tuple[int, int], side: int, count: int, *, turn: bool, seed: int = 1
) -> Recall:
    """Ask ``dates[0]`` with ``count`` pictures of ``dates[1]``, in any heading with ``turn``, else north up.

    The model takes (B, 3, side, side) RGB in 0..1. In any heading the tiles are turned by quarters. Raises NothingFound
    for a ground with no tile or no picture that is valid at both dates.
    """
    reference, other = dates
    height, width = stack.valid.shape[1:]
    ys, xs = (np.arange(side / 2, n - side / 2 + 1e-9, round(STEP * side)) for n in (height, width))
    tiles = np.array([(y, x) for y in ys for x in xs if stack.covers(y, x, side / 2)[reference]])
    rng = np.random.default_rng(seed)
    edge = side / math.sqrt(2) if turn else side / 2
    places: list[NDArray[np.float64]] = []
    if edge <= min(height, width) - edge:
        for _ in range(TRIES * count):
            place = rng.uniform((edge, edge), (height - edge, width - edge))
            if stack.covers(place[0], place[1], side / 2)[list(dates)].all():
                places.append(place)
            if len(places) == count:
                break
    if not len(tiles) or not places:
        raise NothingFound(f"recall: nothing of {side} pixels that dates {reference} and {other} both know")
    at = np.array(places)
    angles = rng.uniform(0, math.tau, len(at)) * turn
    gallery = torch.stack([crop(stack.pictures[reference], y, x, side) for y, x in tiles])
    queries = torch.stack([crop(stack.pictures[other], y, x, side, a) for (y, x), a in zip(at, angles, strict=True)])
    near = np.hypot(*np.moveaxis(tiles[None] - at[:, None], -1, 0)) <= RIGHT * side
    vectors = embed_quarters(model, gallery) if turn else embed(model, gallery)[:, None]
    best = np.einsum("qd,gtd->qgt", embed(model, queries), vectors).max(-1).argmax(1)
    return Recall(int(near[np.arange(len(at)), best].sum()), int(near.sum()), len(tiles), len(at))
