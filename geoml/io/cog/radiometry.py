"""Does the offset of an item fit its pixels? Flags of Sentinel-2 items are sometimes wrong; nothing else shows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geoml.errors import DataError
from geoml.io.cog import validity
from geoml.io.cog.scaling import with_file_scaling
from geoml.io.cog.source import label, open_path, using
from geoml.io.stac.bands import BandSpec
from geoml.io.stac.catalog import Profile

log = logging.getLogger(__name__)

SIDE = 512
"""Pixels of the overview that is read; without one, of a window in the middle."""

FEWEST = 1000
"""Valid pixels below which nothing is said."""

DARK = ("red", "swir22", "swir16", "green", "rededge071", "blue")
"""Bands in which water, shadow or plants are dark: red first, where the air adds little and deserts are bright."""


def check_offset(item: pystac.Item, specs: Sequence[BandSpec], profile: Profile) -> None:
    """Compare what the profile's ``offset_rule`` made of an item's metadata with the dark pixels of one band.

    Numbers that carry the offset (Sentinel-2 since baseline 04.00: 1000 is no reflection) have nothing far below it. So
    a band with many such pixels proves that the offset is not in them: DataError, naming item and band. The opposite
    cannot be proved, since a bright scene has no dark pixel: numbers that end just above the offset are a warning.

    Reads one small overview. Does nothing for collections without a rule, and where the rule has ``check: false``.
    """
    rule = profile.offset_rule
    ruled = [s for s in specs if rule and rule.check and s.name in rule.bands]
    if rule is None or not ruled:
        return
    (spec,) = with_file_scaling([min(ruled, key=lambda s: DARK.index(s.name) if s.name in DARK else len(DARK))])
    numbers = using(spec, lambda dataset: _numbers(dataset, spec))
    if numbers.size < FEWEST:
        return
    raised = -rule.offset / spec.scale
    lowest, low, dark = np.percentile(numbers, (0.1, 1, 5))
    if spec.offset and dark < 0.7 * raised:
        raise DataError(
            f"{label(spec)}: according to its metadata the numbers are raised by {raised:.0f} "
            f"(offset {spec.offset:g}), but 5 % "
            f"of {spec.name} are below {dark:.0f}; expected hardly any below {raised:.0f}. A flag or the processing "
            "baseline is wrong; leave the item out, or trust it with `check: false` in the catalog's offset_rule"
        )
    if not spec.offset and lowest >= raised and low < 1.3 * raised:
        log.warning(
            "%s: according to its metadata the numbers are not raised by %.0f, but not one pixel of "
                "%s is below it; if the scene "
            "has water, shadow or plants, its flag is wrong and reflectances are %g too high",
            label(spec), raised, spec.name, -rule.offset,
        )  # fmt: skip


def _numbers(dataset: rasterio.DatasetReader, spec: BandSpec) -> NDArray[np.number]:
    """Valid numbers of a band, one dimension, as stored: of its finest overview that is no larger than `SIDE`."""
    no_data = validity.nodata_of(dataset, [spec.index], [spec.nodata_values], label(spec))
    size, factors = max(dataset.shape), [] if dataset.driver == "VRT" else dataset.overviews(spec.index)
    level = next((k for k, factor in enumerate(factors) if size / factor <= SIDE), None)
    if size > SIDE and level is not None and not no_data.masked and not no_data.unknown_to_overviews():
        with open_path(dataset.name, overview=level) as overview:
            pixels, valid = validity.pixels(overview, [spec.index], None, no_data)
    else:
        rows, cols = (max(0, (n - SIDE) // 2) for n in dataset.shape)
        height, width = (min(n, SIDE) for n in dataset.shape)
        pixels, valid = validity.pixels(dataset, [spec.index], Window(cols, rows, width, height), no_data)
    numbers: NDArray[np.number] = pixels[valid]
    return numbers
