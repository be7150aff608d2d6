"""Files of imaging spectrometers: what they say of their bands, which are bad, and reading those that were asked for.

Wavelengths stand in the tags of each band (``wavelength``, ``wavelength_units``, ``fwhm``, ``bbl``: those of ENVI,
which EnMAP's files have too) or, rounded, in GDAL's domain IMAGERY, in micrometres. A band is bad where the list of
bad bands says so (``bbl`` 0), and in a file of `MANY` bands where it has no data in any of five places in which others
have. A bad band is 0 and has no say in validity: a pixel is valid where every other band that is used has data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from geoml.errors import DataError, InputError
from geoml.io.cog import read as cog
from geoml.io.cog import validity
from geoml.io.cog.source import label, using
from geoml.io.spectrum import MANY, Asked, Mix, SensorBand, check_plausible, factor, match, mixed
from geoml.io.stac.bands import BandSpec, SpectralBand, band_specs, of_the_file
from geoml.io.stac.catalog import Catalog, Profile

SIDE = 64
"""Pixels of a place in which bands are compared with each other."""
PLACES = ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2))
"""In quarters of a scene less one: its middle first."""


def lines_of(dataset: rasterio.DatasetReader) -> tuple[SensorBand, ...]:
    """What a file says of its bands, those that say no wavelength left out.

    Raises InputError, naming field and count, for wavelengths without a unit, in an unknown one, in several, or that
    are none in the unit that is said.
    """
    tags = [_tags(dataset, i) for i in range(1, dataset.count + 1)]
    found = [(i, _number(t["wavelength"]), t) for i, t in enumerate(tags, 1) if "wavelength" in t]
    if not found:
        return _imagery(dataset)
    if broken := sum(w is None for _, w, _ in found):
        raise InputError(f"wavelength: {broken} of {len(found)} bands have one that is not a number")
    nm = factor([t.get("wavelength_units") for *_, t in found], "wavelength_units")
    centres = [(w or 0.0) * nm for _, w, _ in found]
    check_plausible(centres, "wavelength", "nm" if nm == 1 else "um")
    widths = [_number(t.get("fwhm")) for *_, t in found]
    return tuple(
        SensorBand(i, centre, width * nm if width else None, _number(t.get("bbl")) == 0)
        for (i, _, t), centre, width in zip(found, centres, widths, strict=True)
    )


def lines_of_item(item: pystac.Item, first: Asked, profile: Profile, catalog: Catalog) -> Sequence[SensorBand]:
    """The bands of an item by wavelength, as its only file says them, else as the item does.

    ``first`` is one that is wanted. Raises InputError if none says a wavelength, DataError, naming item, field and
    count, for wavelengths that make no sense, and what `using` raises.
    """
    known = [s for s in band_specs(item, profile, catalog).values() if s.wavelength is not None]
    spec = known[0] if known else of_the_file(item, first, profile, catalog)
    try:
        check_plausible([s.wavelength or 0.0 for s in known], "eo:center_wavelength", "um")
    except InputError as err:
        raise DataError(f"item {item.id}: {err}") from err
    if len({s.href for s in known}) <= 1 and (found := using(spec, partial(_lines, spec))):
        return found
    return [SensorBand(k, s.wavelength or 0.0, s.fwhm) for k, s in enumerate(known, 1)]


def _lines(spec: BandSpec, dataset: rasterio.DatasetReader) -> tuple[SensorBand, ...]:
    try:
        return lines_of(dataset)
    except InputError as err:
        raise DataError(f"{label(spec)}: {err}") from err


def _tags(dataset: rasterio.DatasetReader, index: int) -> dict[str, str]:
    """Of a band; what it leaves out the lists of an ENVI header say: GDAL gives bands neither ``fwhm`` nor ``bbl``."""
    header = dataset.tags(ns="ENVI")
    tags: dict[str, str] = {}
    for name in ("wavelength", "fwhm", "bbl"):
        values = header.get(name, "").strip("{} ").split(",")
        if len(values) == dataset.count:
            tags[name] = values[index - 1].strip()
    if units := header.get("wavelength_units"):
        tags["wavelength_units"] = units
    own: dict[str, str] = dataset.tags(index)
    return tags | own


def _imagery(dataset: rasterio.DatasetReader) -> tuple[SensorBand, ...]:
    tags = {i: dataset.tags(i, ns="IMAGERY") for i in range(1, dataset.count + 1)}
    found = {i: w * 1000 for i, t in tags.items() if (w := _number(t.get("CENTRAL_WAVELENGTH_UM"))) is not None}
    check_plausible(list(found.values()), "CENTRAL_WAVELENGTH_UM", "um")
    width = {i: _number(tags[i].get("FWHM_UM")) for i in found}
    return tuple(SensorBand(i, w, (width[i] or 0) * 1000 or None) for i, w in found.items())


def settled(specs: Sequence[BandSpec]) -> tuple[BandSpec, ...]:
    """Bands of one asset, with those found in the file that were asked by wavelength, and the bad ones marked.

    Opens the file where a band is `SpectralBand` and reads a few places of it. Raises DataError, naming item, field and
    count, where the file says no such wavelength or other ones than the item; else what `using` raises.
    """
    if all(s.spectral is None or s.spectral.seen for s in specs):
        return tuple(specs)
    try:
        look = Path(specs[0].href).stat()
        stamp = look.st_mtime_ns, look.st_size
    except (OSError, ValueError):  # a URL
        stamp = 0, 0
    return _settled(tuple(specs), stamp, tuple((s.file_scale, s.file_offset) for s in specs))


@lru_cache(maxsize=256)
def _settled(
    specs: tuple[BandSpec, ...], stamp: tuple[int, int], silent: tuple[tuple[bool, bool], ...]
) -> tuple[BandSpec, ...]:
    def action(dataset: rasterio.DatasetReader) -> tuple[BandSpec, ...]:
        try:
            lines = lines_of(dataset)
            _check_item(specs, lines)
            found = [s if s.spectral is None else _found(s, s.spectral, lines) for s in specs]
        except InputError as err:
            raise DataError(f"{label(specs[0])}: {err}") from err
        used = sorted({i for s in found for i, _ in _mix(s)})
        bad = {line.index for line in lines if line.bad} | empty(dataset, used, specs[0])
        return tuple(
            s if s.spectral is None else replace(s, spectral=replace(s.spectral, seen=True, bad=_is_bad(s, bad)))
            for s in found
        )

    return using(specs[0], action)


def _found(spec: BandSpec, spectral: SpectralBand, lines: Sequence[SensorBand]) -> BandSpec:
    if spectral.mix or spectral.asked is None:
        return spec
    mix = match(spectral.asked, lines)
    return replace(spec, index=max(mix, key=lambda pair: pair[1])[0], spectral=replace(spectral, mix=mix))


def _check_item(specs: Sequence[BandSpec], lines: Sequence[SensorBand]) -> None:
    """Raise InputError if the item says other wavelengths than the file, as of bands in another order."""
    known = {line.index: line for line in lines}
    both = [(s, known[s.index]) for s in specs if s.wavelength is not None and s.index in known]
    both = [(s, line) for s, line in both if s.spectral is not None and (s.spectral.mix or s.spectral.asked is None)]
    wrong = [(s, x) for s, x in both if abs((s.wavelength or 0) - x.wavelength) > (x.fwhm or s.fwhm or 10.0) / 2]
    if wrong:
        spec, line = wrong[0]
        raise InputError(
            f"eo:center_wavelength: {len(wrong)} of {len(both)} bands lie elsewhere by the file; band {spec.index} at "
            f"{spec.wavelength:.6g} nm by the item, at {line.wavelength:.6g} nm by the file"
        )


def empty(dataset: rasterio.DatasetReader, indexes: Sequence[int], spec: BandSpec) -> set[int]:
    """Those of ``indexes`` without data in a few places in which others have some; none of a file of few bands."""
    if dataset.count < MANY or len(indexes) < 2:
        return set()
    never, ever = list(indexes), False
    for row, column in PLACES:
        height, width = min(SIDE, dataset.height), min(SIDE, dataset.width)
        top, left = row * (dataset.height - height) // 2, column * (dataset.width - width) // 2
        window = Window(left, top, width, height)
        no_data = validity.nodata_of(dataset, never, [spec.nodata_values] * len(never), label(spec))
        _, valid = validity.pixels(dataset, never, window, no_data)
        some: NDArray[np.bool_] = np.asarray(valid.any(axis=(1, 2)))
        ever |= bool(some.any())
        never = [i for i, seen in zip(never, some, strict=True) if not seen]
        if not never:
            break
    return set(never) if ever else set()


def _is_bad(spec: BandSpec, bad: set[int]) -> bool:
    return any(i in bad for i, _ in _mix(spec))


def _mix(spec: BandSpec) -> Mix:
    return spec.spectral.mix if spec.spectral is not None and spec.spectral.mix else ((spec.index, 1.0),)


def read_parts(specs: Sequence[BandSpec], parts: Sequence[GeoBox], *, resampling: str = "bilinear") -> list[cog.Pixels]:
    """`geoml.io.cog.read.read_parts` of bands that may be `SpectralBand`, and `settled` then; raises what that does."""

    def read(plain: Sequence[BandSpec]) -> list[cog.Pixels]:
        if len(parts) == 1:
            return [cog.read(plain, parts[0], resampling=resampling)]
        return cog.read_parts(plain, parts, resampling=resampling)

    return _of_file(specs, read)


def valid_parts(
    specs: Sequence[BandSpec], parts: Sequence[GeoBox], *, resampling: str = "bilinear"
) -> list[NDArray[np.bool_]]:
    """`geoml.io.cog.read.valid_parts` of bands that may be `SpectralBand`; raises what that and `settled` do."""

    def read(plain: Sequence[BandSpec]) -> list[cog.Pixels]:
        found = cog.valid_parts(plain, parts, resampling=resampling)
        return [(np.zeros(valid.shape, np.uint8), valid) for valid in found]

    return [valid for _, valid in _of_file(settled(specs), read)]


def _of_file(specs: Sequence[BandSpec], read: Callable[[Sequence[BandSpec]], list[cog.Pixels]]) -> list[cog.Pixels]:
    """Bands made of those of the file, which are read once each."""
    if all(s.spectral is None for s in specs):
        return read(specs)
    mixes = [None if s.spectral is not None and s.spectral.bad else _mix(s) for s in specs]
    plain: dict[int, BandSpec] = {}
    for spec, mix in zip(specs, mixes, strict=True):
        for index, _ in mix or ():
            plain.setdefault(index, replace(spec, index=index, spectral=None))
    if not plain:  # nothing but bad bands: read as they are, they have no data
        return read([replace(s, spectral=None) for s in specs])
    return [mixed(data, valid, list(plain), mixes) for data, valid in read(list(plain.values()))]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
