"""The header of a raster that somebody has: its bands, its place and what its tags say. No pixel is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags

from geoml.errors import InputError
from geoml.io.cog.scaling import band_scaling
from geoml.io.cog.source import using
from geoml.io.cog.spectrum import lines_of
from geoml.io.cog.vrt_mosaic import SUFFIX, MosaicPart
from geoml.io.crs import STRETCHED, stretch
from geoml.io.georef import placement_of
from geoml.io.spectrum import MANY
from geoml.io.stac.bands import BandSpec
from geoml.io.stores.remote import is_url
from geoml.redacted import bare, redact

COMMON = (
    *("pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075"),
    *("rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12"),
)
"""Common names of the EO extension (https://github.com/stac-extensions/eo, v2.0.0)."""
DEGREE = 111_320.0
"""Metres of a degree of latitude."""


@dataclass(frozen=True)
class RasterFile:
    """The header of a file. ``names`` and ``scaling`` are of each band, None and (1, 0) where it says nothing; a last
    band that says what is seen (``alpha``) has no name."""

    href: str
    box: GeoBox
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    scaling: tuple[tuple[float, float], ...]
    names: tuple[str | None, ...]
    tags: Mapping[str, str]
    alpha: bool
    spectral: bool
    masked: bool = False
    """It has a mask of its own."""
    flipped: bool = False
    """Its first row is the southernmost one."""
    unspectral: str = ""
    """Why bands that should say a wavelength cannot be asked for by it."""
    parts: tuple[MosaicPart, ...] = ()
    """Of an image in several files, which has no file at ``href``."""

    @property
    def hrefs(self) -> tuple[str, ...]:
        """The files that it is read from."""
        return tuple(p.href for p in self.parts) or (self.href,)

    @property
    def gsd(self) -> float:
        """Metres of a pixel on the ground, six digits: of an oblong one the side of a square of its area."""
        a, b, _, d, e, _ = tuple(self.box.affine)[:6]
        x, y = math.hypot(a, d), math.hypot(b, e)
        crs = self.box.crs
        if crs is not None and crs.geographic:
            middle = self.box.extent.centroid.coords[0][1]
            x, y = x * DEGREE * math.cos(math.radians(middle)), y * DEGREE
        elif crs is not None:
            unit = crs.proj.axis_info[0].unit_conversion_factor if crs.proj.axis_info else 1.0
            much = stretch(self.box)
            unit /= much if abs(much - 1) > STRETCHED else 1.0
            x, y = x * unit, y * unit
        return float(f"{math.sqrt(x * y):.6g}")


def header(place: str) -> RasterFile:
    """The header of a file of this machine or at a URL. Raises InputError, DataError or TransientError."""
    if is_url(place) and bare(place) != place:
        raise InputError(f"{redact(place)}: a signed URL, which a catalog may not keep; expected one without a query")
    if bare(place).lower().endswith(SUFFIX):  # a change of its files would show nowhere
        raise InputError(f"{redact(place)}: a VRT; expected its files")
    href = place if is_url(place) else str(Path(place).absolute())
    if not is_url(place) and not Path(place).is_file():
        raise InputError(f"{place}: is not a file; expected a GeoTIFF")

    def inspect(dataset: rasterio.DatasetReader) -> RasterFile:
        indexes = dataset.indexes
        alpha = len(indexes) > 1 and dataset.colorinterp[-1] == ColorInterp.alpha
        colours = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}
        said = [_plain(dataset.descriptions[i - 1]) for i in indexes]
        used = len(indexes) - alpha
        if len({*said[:used]} - {None}) < used:
            said = [colours.get(dataset.colorinterp[i - 1]) for i in indexes]
        known: bool = None not in said[:used] and len(set(said[:used])) == used
        tags = {k.lower(): v for ns in (None, "IMAGERY") for k, v in dataset.tags(ns=ns).items()}
        if (theirs := tags.get("system", "")).count("="):  # rasterio cuts the names of Earth Engine at their colon
            tags[f"system:{theirs.partition('=')[0]}"] = theirs.partition("=")[2]
        placed = placement_of(dataset)
        unspectral = _unspectral(dataset)
        return RasterFile(
            href,
            placed.geobox,
            tuple(dataset.dtypes[i - 1] for i in indexes),
            tuple(dataset.nodatavals[i - 1] for i in indexes),
            tuple(band_scaling(dataset, i, href) for i in indexes),
            tuple(said[:used]) if known else (None,) * used,
            tags,
            alpha,
            unspectral is None,
            any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in dataset.mask_flag_enums),
            placed.flipped,
            unspectral or "",
        )

    return using(BandSpec(redact(Path(place).name), "image", href, "", remote=False), inspect)


def _unspectral(dataset: rasterio.DatasetReader) -> str | None:
    """Why the bands cannot be asked for by wavelength, "" where nobody would expect it; None if they can."""
    try:
        silent = dataset.count - len(lines_of(dataset))
    except InputError as err:
        return str(err)
    said = silent < dataset.count or dataset.count >= MANY
    return None if not silent else f"wavelength: {silent} of {dataset.count} bands have none" if said else ""


def _plain(text: str | None) -> str | None:
    """A description as a name: common names in small letters, others as they are."""
    words = " ".join((text or "").split())
    return words.lower() if words.lower() in COMMON else words or None
