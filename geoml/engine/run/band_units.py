"""Do the units of the data fit the model? Said once for a run, before a pixel is read."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from geoml.errors import ModelError
from geoml.io import units
from geoml.io.cards.map_card import MapCard
from geoml.io.stac.bands import BandSpec

log = logging.getLogger(__name__)

BACKSCATTER = ("linear power", "amplitude", "dB")
"""Units of one quantity that look alike and are not: a wrong one gives a map that looks right."""


def check_units(card: MapCard, specs: Sequence[Sequence[BandSpec]], where: str) -> dict[str, str]:
    """What happens to the unit of each band of the model, in words; ``specs`` are the bands of each item.

    Raises ModelError, naming band and units, where the data's unit cannot be made the model's.
    """
    accounts = {}
    for band, column in zip(card.bands, zip(*specs, strict=True), strict=True):
        have = [s.unit for s in column]
        stated = {h for h in have if h is not None}
        if why := units.mismatch(band.name, stated, band.unit):
            raise ModelError(f"{card.name} does not fit {where}: {why}")
        accounts[band.name] = units.describe(have, band.unit)
        risky = band.unit is not None or bool(stated & set(BACKSCATTER))
        unsure = band.unit is None or None in have
        log.log(logging.WARNING if risky and unsure else logging.INFO, "unit of %s: %s", band.name, accounts[band.name])
    return accounts


def converts(card: MapCard, specs: Sequence[Sequence[BandSpec]]) -> bool:
    """Whether values of any item are changed into the model's unit."""
    return any(units.differ(s.unit, b.unit) for row in specs for s, b in zip(row, card.bands, strict=True))
