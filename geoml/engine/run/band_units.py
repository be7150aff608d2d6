"""Whether the units of the data fit the model: checked once for a run, before a pixel is read."""

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

MOST = 16
"""Bands of a sensor that are spoken of one by one."""


def check_units(card: MapCard, specs: Sequence[Sequence[BandSpec]], where: str) -> dict[str, str]:
    """What happens to the unit of each band of the model, in words; ``specs`` are the bands of each item.

    Raises ModelError, naming band and units, where the data's unit cannot be made the model's.
    """
    accounts = {}
    said: dict[tuple[int, str], list[str]] = {}
    for band, column in zip(card.bands, zip(*specs, strict=True), strict=True):
        have = [s.unit for s in column]
        stated = {h for h in have if h is not None}
        if why := units.mismatch(band.name, stated, band.unit):
            raise ModelError(f"{card.name} does not fit {where}: {why}")
        accounts[band.name] = units.describe(have, band.unit)
        risky = band.unit is not None or bool(stated & set(BACKSCATTER))
        unsure = band.unit is None or None in have
        level = logging.WARNING if risky and unsure else logging.INFO
        said.setdefault((level, accounts[band.name]), []).append(band.name)
    for (level, text), names in said.items():
        together = [f"{len(names)} bands from {names[0]}"] if len(names) > MOST else names
        for name in together:
            log.log(level, "unit of %s: %s", name, text)
    return accounts


def converts(card: MapCard, specs: Sequence[Sequence[BandSpec]]) -> bool:
    """Whether values of any item are changed into the model's unit."""
    return any(units.differ(s.unit, b.unit) for row in specs for s, b in zip(row, card.bands, strict=True))
