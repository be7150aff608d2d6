"""The blocks of a plan: which items each of them uses, and the hash that tells when it is done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoml.engine.contract import input_of, output_of
from geoml.engine.inference.lattice import levels_of, margin_of
from geoml.engine.run.block_table import BlockTable, columns
from geoml.engine.run.item_version import item_version
from geoml.grid.nearby import Areas
from geoml.grid.plane import Block, Plane
from geoml.grid.region import squares_of
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.usable import Usable
from geoml.recipe import PredictRecipe, canonical

Rows = NDArray[np.intp]


class Cut(Protocol):
    """A zone of a plan."""

    @property
    def part(self) -> str: ...

    @property
    def plane(self) -> Plane: ...


@dataclass(frozen=True)
class _Found:
    """A block of a zone with the rows of the items that touch it, and of others near it."""

    zone: int
    block: Block
    items: Rows
    near: Rows


def planned_blocks(
    recipe: PredictRecipe,
    card: MapCard,
    planes: Sequence[Cut],
    cuts: Sequence[Sequence[Block]],
    dates: Sequence[Sequence[Usable]],
    into: Sequence[str | None],
    *,
    every: bool,
) -> tuple[BlockTable, set[str]]:
    """Of the blocks that each zone is cut into, those that items of ``every`` date touch, or of any; and the ids of all
    items that blocks use, which are the rows of the table in the order of ``dates``.

    ``into`` says what else decides a pixel, if anything does: units that values are converted to, marks of the card.
    """
    around = input_of(card, recipe).around
    found = list(_found(recipe, card, planes, cuts, dates, every=every))
    items = [u.item for those in dates for u in those]
    query = recipe.query.model_dump(mode="json", include={"filter"})
    options = recipe.counted("query", "min_area", "simplify")
    head = ",".join(map(canonical, (card.sha256, options, query)))
    parts = [canonical(zone.part) for zone in planes]
    tail = f",{canonical(list(into))}" if into else ""
    versions = [canonical((i.id, item_version(i))) for i in items]

    def said(of: _Found) -> str:
        """sha256 of [card, options, query, id, part, [[item, version], …], units], put together of texts made once."""
        decide = (*of.items, *of.near) if around else of.items
        pairs = ",".join(versions[k] for k in decide)
        text = f"[{head},{canonical(of.block.id)},{parts[of.zone]},[{pairs}]{tail}]"
        return hashlib.sha256(text.encode()).hexdigest()

    used = np.zeros(len(items), bool)
    for of in found:
        used[of.items] = True
    row = np.cumsum(used) - 1
    lists = [_ragged([row[of.items] for of in found]), _ragged([row[of.near[used[of.near]]] for of in found])]
    table = columns([(of.zone, of.block.iy, of.block.ix) for of in found], [said(of) for of in found], lists)
    ids = [item.id for item, wanted in zip(items, used, strict=True) if wanted]
    return BlockTable.of_table(table, ids), set(ids)


def _found(
    recipe: PredictRecipe,
    card: MapCard,
    planes: Sequence[Cut],
    cuts: Sequence[Sequence[Block]],
    dates: Sequence[Sequence[Usable]],
    *,
    every: bool,
) -> Iterator[_Found]:
    output = output_of(card, recipe)
    margin = margin_of(levels_of(card, output, recipe.join, factors=recipe.pyramid), output.joiner)
    margin += input_of(card, recipe).around
    reach = math.ceil(recipe.max_shift) + 2  # a date is read wider where it is moved
    areas = Areas([u.area for those in dates for u in those])
    date = np.repeat(np.arange(len(dates)), [len(those) for those in dates])
    for n, (zone, blocks) in enumerate(zip(planes, cuts, strict=True)):
        plane = zone.plane
        pairs = areas.near(plane, [b.window.expand(margin) for b in blocks], reach)
        here = pairs.meet(squares_of(plane, [b.window for b in blocks]))
        covered = np.zeros((len(blocks), len(dates)), bool)
        covered[pairs.window[here], date[pairs.area[here]]] = True
        starts = np.searchsorted(pairs.window, np.arange(len(blocks) + 1))
        for k in np.flatnonzero(covered.all(axis=1) if every else covered.any(axis=1)):
            part = slice(starts[k], starts[k + 1])
            area, touches = pairs.area[part], pairs.touches[part]
            yield _Found(n, blocks[int(k)], area[touches], area[~touches])


def _ragged(lists: Sequence[Rows]) -> tuple[Rows, Rows]:
    offsets = np.cumsum([0, *map(len, lists)])
    return offsets, np.concatenate(lists) if lists else np.empty(0, np.intp)
