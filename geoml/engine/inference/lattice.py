"""Where a model looks: the lattice of its chips, which planning needs too, so nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geoml.engine.contract import AnyOutput
from geoml.errors import InputError
from geoml.grid.chips import CORE, ChipGrid, exact_grid
from geoml.io.cards.map_card import MapCard

WIDEST = 16_384
"""Pixels of the plane that a chip of the coarsest level of a pyramid may be wide: a block is read with all that its
chips hold."""


def owner_grid(card: MapCard, reach: int, factor: int = 1) -> ChipGrid:
    """The lattice of a model of things. Cores tile the plane; chips reach as far around them as the network sees.

    Of a network that sees its whole chip, the core is the middle of it, half of the card's overlap from each edge.
    Otherwise in pixels ``factor`` times as wide a core has so many fewer of them, and is as wide on the ground.
    """
    if card.radius is not None:
        return exact_grid(0, card.radius + reach, card.stride, core=CORE // factor)
    halo = -(-max(card.overlap // 2, reach) // card.stride) * card.stride
    return exact_grid(0, halo, card.stride, core=max(card.chip_size - 2 * halo, card.stride))


def grid_of(card: MapCard, output: AnyOutput, join: str = "auto", *, tta: bool = False) -> ChipGrid:
    """The lattice for a model and its output. Raises InputError for a way to join that the output cannot serve."""
    if output.joiner == "owner":
        if join == "blend" or tta:
            raise InputError(f"{'tta' if tta else 'join'}: {card.name} finds objects, which cannot be averaged")
        return owner_grid(card, output.reach)
    return card.chip_grid(join)


def levels_of(
    card: MapCard, output: AnyOutput, join: str = "auto", *, tta: bool = False, factors: Sequence[int] = ()
) -> dict[int, ChipGrid]:
    """The lattice of each level of a pyramid by how many times its pixels are as wide as those of the plane, 1 first.

    Raises InputError as `grid_of`, for an output that has no levels, and for one that reaches too far.
    """
    levels = {1: grid_of(card, output, join, tta=tta)}
    for factor in factors:
        if output.joiner != "owner":
            raise InputError(f"pyramid: {card.name} maps every pixel; expected a model that finds objects")
        levels[factor] = grid = owner_grid(card, output.reach, factor)
        if (wide := factor * grid.size) > WIDEST:
            raise InputError(
                f"pyramid: at {factor} a chip of {card.name} with what it sees around is {wide:,} pixels wide, and each"
                f" block would be read so far; at most {WIDEST:,} are, expected a smaller factor"
            )
    return levels


def margin_of(levels: Mapping[int, ChipGrid], joiner: str) -> int:
    """Pixels of the plane around a block beyond which nothing decides what is said of it.

    Of things that is all that a chip holds: a box may reach farther than the network sees.
    """
    grid = levels[1]
    if joiner == "pixels" and grid.exact and not grid.whole:
        return grid.halo + grid.stride
    return max(factor * level.size for factor, level in levels.items())
