"""Items of imaging spectrometers of a run: their files are compared with the model's bands before a block is run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from geoml.errors import DataError, ModelError
from geoml.io.cards.map_card import Band
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.left_out import LeftOut
from geoml.io.stac.usable import Usable
from geoml.texts import listed

log = logging.getLogger(__name__)


def of_spectra(items: Sequence[Usable], bands: Sequence[Band], left: LeftOut) -> list[Usable]:
    """The items whose files have the model's ``bands``; the others go to ``left`` with the reason. Opens those of which
    a band is one of many or asked by wavelength, and leaves the others as they are.

    A bad band is 0 to the model, which is right only where it was so in training, and the mean in the card is 0: else
    the item is left out. With ``left.strict`` the first reason is raised: DataError or ModelError.
    """
    fit = []
    for usable in items:
        if all(s.spectral is None for s in usable.specs):
            fit.append(usable)
            continue
        try:
            fit.append(replace(usable, specs=_checked(usable, bands)))
        except (DataError, ModelError) as err:
            left.add(usable.item.id, err)
    return fit


def _checked(usable: Usable, bands: Sequence[Band]) -> tuple[BandSpec, ...]:
    from geoml.io.cog.spectrum import settled  # GDAL, which a plan that is only read does without

    specs, assets = list(usable.specs), [s.asset for s in usable.specs]
    for asset in dict.fromkeys(assets):
        at = [k for k, a in enumerate(assets) if a == asset]
        for k, spec in zip(at, settled([specs[k] for k in at]), strict=True):
            specs[k] = spec
    bad = [k for k, s in enumerate(specs) if s.spectral is not None and s.spectral.bad]
    missed = [bands[k].name for k in bad if bands[k].mean != 0]
    if missed or len(bad) == len(specs):
        names = listed(missed or [bands[k].name for k in bad], most=4)
        raise DataError(f"item {usable.item.id}: {len(missed) or len(bad)} of {len(specs)} bands are bad ({names})")
    if bad:
        log.warning("item %s: %d of %d bands are bad and 0 to the model", usable.item.id, len(bad), len(specs))
    return tuple(specs)
