"""Bands of an item by common name: where they are and how their numbers become physical values.

Metadata differ between items of one collection, so everything is resolved per item: STAC 1.1 ``bands``, STAC 1.0
``eo:bands`` with ``raster:bands``, then what the catalog's YAML says where the item is silent. Names go the other way
round: the YAML's names count first, since items repeat common names (three bands called ``rededge``). What all of them
leave out the collection's ``item_assets`` say, and of scale and offset at last the file (`geoml.io.cog.scaling`).

A band may be asked for by wavelength (`geoml.io.spectrum`). Items that say none leave it to their file, of which then
only this is known here: `geoml.io.cog.spectrum` finds the band when it is opened.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pystac

from geoml.errors import DataError, InputError
from geoml.io import spectrum
from geoml.io.projection import Projection
from geoml.io.stac.asset_projection import projection
from geoml.io.stac.assets import asset_href, data_type, rasters, why_none
from geoml.io.stac.catalog import BandMeta, Catalog, OffsetRule, Profile
from geoml.io.stac.provenance import is_remote, may_use_keys
from geoml.io.stores.sign import sign_href
from geoml.io.unit_names import unit
from geoml.texts import listed

_GSD = ("gsd", "raster:spatial_resolution", "spatial_resolution")
_CENTRE = ("eo:center_wavelength", "center_wavelength")
_WIDTH = ("eo:full_width_half_max", "full_width_half_max")


@dataclass(frozen=True, slots=True)
class SpectralBand:
    """How a band comes of a file with many: see `geoml.io.spectrum` and `geoml.io.cog.spectrum`."""

    asked: spectrum.Asked | None = None
    """By wavelength; None: by name."""
    mix: spectrum.Mix = ()
    """Bands of the file and their weights; empty if only the file can say it."""
    bad: bool = False
    """It has no data: by the file's list of bad bands, or nowhere in the file."""
    seen: bool = False
    """The file was asked."""


@dataclass(frozen=True, slots=True)
class BandSpec:
    """One band of one asset of one item. Physical value = number * ``scale`` + ``offset``."""

    item: str
    asset: str
    href: str
    name: str
    index: int = 1
    dtype: str | None = None
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    gsd: float | None = None
    sign: str | None = None
    remote: bool = True
    keys: bool = True  # whether an object is read with the user's keys; False: anonymously
    root: str | None = None
    checksum: str | None = None  # file:checksum of the asset, a multihash
    unit: str | None = None  # of physical values
    projection: Projection | None = None  # what the item says of the file's place
    other_nodata: tuple[float, ...] = ()  # further nodata values; all of them count
    file_scale: bool = field(default=False, compare=False)  # only the file can say it; `scale` is 1 until then
    file_offset: bool = field(default=False, compare=False)
    wavelength: float | None = None  # of its centre, nm, as the item says it
    fwhm: float | None = None  # full width at half maximum, nm
    spectral: SpectralBand | None = None  # of a band that was asked by wavelength, or is one of many

    @property
    def nodata_values(self) -> tuple[float, ...]:
        """All nodata values of item and catalog."""
        return self.other_nodata if self.nodata is None else (self.nodata, *self.other_nodata)


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """The quality band of one item: a pixel is bad by its value (``values``) or by any of its bits (``bits``)."""

    band: BandSpec
    kind: Literal["values", "bits"]
    bad_values: tuple[int, ...] = ()
    bad_bits: tuple[int, ...] = ()


def sign(spec: BandSpec, *, fresh: bool = False) -> str:
    """The href to read now, signed where the catalog asks for it. Call it just before a read; ``fresh`` after a 403.

    Raises TransientError if the signing service does not answer, DataError if it refuses.
    """
    return sign_href(spec.href, spec.sign, fresh=fresh) if spec.sign else spec.href


def band_specs(item: pystac.Item, profile: Profile, catalog: Catalog) -> dict[str, BandSpec]:
    """Bands of ``item`` by name: common name, else the band's own name, else the asset key.

    Assets that the profile lists come first; where two bands claim one name the first keeps it and the other goes by
    its own name. Raises DataError for metadata that are not numbers or an unreadable processing baseline.
    """
    specs: dict[str, BandSpec] = {}
    for key, metas in profile.bands.items():
        if key in item.assets:
            declared = _declared(item.assets[key])
            for meta in metas:
                band = declared[meta.index - 1] if meta.index <= len(declared) else {}
                specs.setdefault(meta.name, _spec(item, key, meta.name, meta.index, band, meta, profile, catalog))
    for key in rasters(item, skip=profile.bands):
        declared = _declared(item.assets[key])
        for index, band in enumerate(declared or [{}], start=1):
            names = [_first(band, "eo:common_name", "common_name"), band.get("name")]
            names += [key] if len(declared) < 2 else [_wavelength_name(band)]
            name = next((n for n in names if isinstance(n, str) and n not in specs), None)
            if name is not None:
                specs[name] = _spec(item, key, name, index, band, None, profile, catalog)
    return specs


def mask_spec(item: pystac.Item, profile: Profile, catalog: Catalog) -> MaskSpec | None:
    """The quality band that the profile names, with no scale and no offset; None when the profile has none.

    Raises DataError if the item lacks the asset: unmasked clouds would pass for ground.
    """
    rule = profile.mask
    if rule is None:
        return None
    asset = item.assets.get(rule.asset)
    if asset is None:
        raise DataError(
            f"item {item.id}: no asset {rule.asset!r} for the quality mask; it has {listed(sorted(item.assets))}"
        )
    declared = _declared(asset)
    band = declared[rule.index - 1] if rule.index <= len(declared) else {}
    nodata = _number(item, rule.asset, "nodata", band.get("nodata"))
    spec = replace(
        _located(item, rule.asset, rule.asset, rule.index, profile, catalog),
        dtype=data_type(band.get("data_type")),
        nodata=nodata if rule.nodata is None else rule.nodata,
        other_nodata=() if nodata is None or rule.nodata in (None, nodata) else (nodata,),
        gsd=_gsd(_first(band, *_GSD)),
    )
    values, bits = (rule.bad, ()) if rule.kind == "values" else ((), rule.bad)
    return MaskSpec(spec, rule.kind, bad_values=values, bad_bits=bits)


def select(item: pystac.Item, names: Sequence[str], profile: Profile, catalog: Catalog) -> list[BandSpec]:
    """The bands ``names`` of ``item``, in that order. Raises InputError naming band, item and what the item has."""
    specs = band_specs(item, profile, catalog)
    chosen = [specs.get(name) or _by_wavelength(item, name, specs, profile, catalog) for name in names]
    for name, spec in zip(names, chosen, strict=True):
        if spec is None:
            near = difflib.get_close_matches(name, specs, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}? " if near else ""
            has = f"{listed(sorted(specs))}{why_none(item)}"
            raise InputError(f"bands: item {item.id} has no band {name!r}; {hint}it has {has}")
    return [spec for spec in chosen if spec is not None]


def _by_wavelength(
    item: pystac.Item, name: str, specs: Mapping[str, BandSpec], profile: Profile, catalog: Catalog
) -> BandSpec | None:
    """The band at the wavelength that a name says; None for a name that says none. Raises InputError, with counts."""
    if spectrum.range_of(name) is not None:
        raise InputError(
            f"bands: {name} stands for several bands, which a training and geoml learn resolve; expected one wavelength"
        )
    want = spectrum.asked(name)
    if want is None:
        return None
    if want.name in specs:
        return specs[want.name]
    try:
        return _at(item, want, specs, profile, catalog)
    except InputError as err:
        raise InputError(f"bands: item {item.id}: {str(err).removeprefix('bands: ')}") from err


def _at(
    item: pystac.Item, want: spectrum.Asked, specs: Mapping[str, BandSpec], profile: Profile, catalog: Catalog
) -> BandSpec:
    known = [s for s in specs.values() if s.wavelength is not None]
    if not known:
        return of_the_file(item, want, profile, catalog)
    spectrum.check_plausible([s.wavelength or 0.0 for s in known], _CENTRE[0], "um")
    lines = [spectrum.SensorBand(k, s.wavelength or 0.0, s.fwhm) for k, s in enumerate(known)]
    found = spectrum.match(want, lines)
    parts = [known[k] for k, _ in found]
    if len({(p.href, p.scale, p.offset, p.nodata_values) for p in parts}) > 1:
        raise InputError(f"bands: {want} lies over {len(parts)} bands that are not of one file with one scale")
    first = known[max(found, key=lambda pair: pair[1])[0]]
    mix = tuple((known[k].index, weight) for k, weight in found)
    dtype = first.dtype if len(mix) == 1 or first.dtype is None else "float32"
    name = want.name or first.name
    return replace(first, name=name, dtype=dtype, spectral=SpectralBand(want, mix))


def of_the_file(item: pystac.Item, want: spectrum.Asked, profile: Profile, catalog: Catalog) -> BandSpec:
    """A band of the item's only raster, which only the file can find; a mask beside it does not count.

    Raises InputError for an item with several.
    """
    keys = rasters(item, skip=() if profile.mask is None else (profile.mask.asset,)) or rasters(item)
    if len(keys) != 1:
        rasters_of = f"{len(keys)} rasters says its wavelength{why_none(item)}"
        raise InputError(f"bands: {want} cannot be found; not one band of {rasters_of}")
    (key,) = keys
    meta = next(iter(profile.bands.get(key, ())), None)
    declared = _declared(item.assets[key])
    band = {k: v for k, v in declared[0].items() if all(d.get(k) == v for d in declared)} if declared else {}
    found = _spec(item, key, want.name or str(want), 1, band, meta, profile, catalog)
    return replace(found, dtype=None if want.fwhm else found.dtype, spectral=SpectralBand(want))


def _located(item: pystac.Item, key: str, name: str, index: int, profile: Profile, catalog: Catalog) -> BandSpec:
    """A band with its place and its rights of access, but none of its numbers yet.

    A YAML's tokens are for its own catalog, not for documents elsewhere.
    """
    asset, remote = item.assets[key], is_remote(item, catalog)
    href, checksum = asset_href(asset), asset.extra_fields.get("file:checksum")
    linked = remote and not catalog.remote and catalog.kind == "static"
    return BandSpec(
        item=item.id,
        asset=key,
        href=href,
        name=name,
        index=index,
        sign=None if linked else profile.sign,
        remote=remote,
        keys=may_use_keys(href, item, catalog),
        root=str(catalog.root) if catalog.root else None,
        checksum=checksum if isinstance(checksum, str) else None,
        projection=projection(item, asset),
    )


def _spec(
    item: pystac.Item,
    key: str,
    name: str,
    index: int,
    band: Mapping[str, object],
    meta: BandMeta | None,
    profile: Profile,
    catalog: Catalog,
) -> BandSpec:
    """One band: what the item says counts first, then the YAML, then the file. All nodata values count.

    What only the collection says came into the item with the search: see `geoml.io.stac.item_assets`.
    """
    fallback = meta or BandMeta(name=name)

    def number(field: str, keys: tuple[str, ...], otherwise: float | None = None) -> float | None:
        value = _first(band, *keys)
        value = _number(item, key, field, item.properties.get(f"raster:{field}") if value is None else value)
        return otherwise if value is None else value

    scale = number("scale", ("raster:scale", "scale"), fallback.scale)
    offset = number("offset", ("raster:offset", "offset"), fallback.offset)
    if scale == 0 or not all(v is None or math.isfinite(v) for v in (scale, offset)):
        raise DataError(f"item {item.id}, asset {key}: scale {scale} and offset {offset}; expected finite, scale not 0")
    if profile.offset_rule and name in profile.offset_rule.bands:
        offset = _offset_by_baseline(item, profile.offset_rule, offset)
    nodata = number("nodata", ("nodata",))
    centre, width = (_micrometres(_first(band, *keys)) for keys in (_CENTRE, _WIDTH))
    return replace(
        _located(item, key, name, index, profile, catalog),
        dtype=data_type(band.get("data_type")) or data_type(fallback.dtype),
        nodata=fallback.nodata if nodata is None else nodata,
        other_nodata=() if fallback.nodata is None or nodata in (None, fallback.nodata) else (fallback.nodata,),
        scale=1.0 if scale is None else scale,
        offset=offset or 0.0,
        gsd=_gsd(_first(band, *_GSD), fallback.gsd, item.properties.get("gsd"), profile.gsd),
        unit=unit(band.get("unit")) or fallback.unit,
        file_scale=scale is None,
        file_offset=offset is None,
        wavelength=centre,
        fwhm=width,
        spectral=SpectralBand(mix=((index, 1.0),)) if _many(item.assets[key]) else None,
    )


def _many(asset: pystac.Asset) -> bool:
    """Whether an asset has the bands of an imaging spectrometer, by its lists."""
    lists = (asset.extra_fields.get(k) for k in ("raster:bands", "eo:bands", "bands"))
    return any(isinstance(bands, list) and len(bands) >= spectrum.MANY for bands in lists)


def _wavelength_name(band: Mapping[str, object]) -> str | None:
    """The name of a band that says nothing but its wavelength."""
    centre = _micrometres(_first(band, *_CENTRE))
    return None if centre is None else spectrum.spelled(centre)


def _micrometres(value: object) -> float | None:
    """Nanometres of what STAC has in micrometres; None for what is not a number above 0."""
    number = _gsd(value)
    return None if number is None else number * 1000


def _offset_by_baseline(item: pystac.Item, rule: OffsetRule, declared: float | None) -> float | None:
    """The offset by the processing baseline; the declared one where the item does not say its baseline."""
    if any(item.properties.get(flag) is True for flag in rule.applied):
        return 0.0
    text = _first(item.properties, *rule.baseline)
    if text is None:
        return declared
    try:
        return rule.offset if float(text) >= rule.since else 0.0
    except (TypeError, ValueError, OverflowError) as err:
        raise DataError(
            f"item {item.id}: processing baseline {repr(text)[:80]}; expected a number such as '05.09'"
        ) from err


def _declared(asset: pystac.Asset) -> list[dict[str, object]]:
    """What an asset says of its bands, in file order; values of the asset itself are defaults of every band."""
    fields = asset.extra_fields
    keys = ("data_type", "nodata", "gsd", "raster:scale", "raster:offset", "raster:spatial_resolution", "unit")
    common = {k: fields[k] for k in keys if fields.get(k) is not None}
    lists = [fields[k] for k in ("raster:bands", "eo:bands", "bands") if isinstance(fields.get(k), list)]
    count = max((len(bands) for bands in lists), default=1 if common else 0)
    merged: list[dict[str, object]] = [dict(common) for _ in range(count)]
    for bands in lists:
        for into, band in zip(merged, bands, strict=False):
            into.update({k: v for k, v in band.items() if v is not None} if isinstance(band, dict) else {})
    return merged


def _first(values: Mapping[str, object], *keys: str) -> Any:
    """The value of the first key that has one; None if none has."""
    return next((values[k] for k in keys if values.get(k) is not None), None)


def _gsd(*candidates: object) -> float | None:
    """The first that is a length in metres; None if none is."""
    for value in candidates:
        with suppress(TypeError, ValueError, OverflowError):
            if isinstance(value, int | float | str) and not isinstance(value, bool) and 0 < float(value) < math.inf:
                return float(value)
    return None


def _number(item: pystac.Item, key: str, field: str, value: Any) -> float | None:
    """A number, also written as 'nan', 'inf' or '-inf' as STAC allows for nodata."""
    if value is None:
        return None
    try:
        return float(value if not isinstance(value, bool) else "a truth value")
    except (TypeError, ValueError, OverflowError) as err:
        raise DataError(f"item {item.id}, asset {key}: {field} is {repr(value)[:80]}; expected a number") from err
