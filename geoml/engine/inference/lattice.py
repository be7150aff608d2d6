"""Where a model looks: the lattice of its chips, which planning needs too, so nothing here imports torch."""

from __future__ import annotations

from geoml.engine.contract import AnyOutput
from geoml.errors import InputError
from geoml.grid.chips import CORE, ChipGrid, exact_grid
from geoml.io.cards.map_card import MapCard


def owner_grid(card: MapCard, reach: int) -> ChipGrid:
    """The lattice of a model of things. Cores tile the plane; chips reach as far around them as the network sees.

    Of a network that sees its whole chip, the core is the middle of it, half of the card's overlap from each edge.
    """
    if card.radius is not None:
        return exact_grid(0, card.radius + reach, card.stride, core=CORE)
    halo = -(-max(card.overlap // 2, reach) // card.stride) * card.stride
    return exact_grid(0, halo, card.stride, core=max(card.chip_size - 2 * halo, card.stride))


def grid_of(card: MapCard, output: AnyOutput, join: str = "auto", *, tta: bool = False) -> ChipGrid:
    """The lattice for a model and its output. Raises InputError for a way to join that the output cannot serve."""
    if output.joiner == "owner":
        if join == "blend" or tta:
            raise InputError(f"{'tta' if tta else 'join'}: {card.name} finds things, which cannot be averaged")
        return owner_grid(card, output.reach)
    return card.chip_grid(join)
