"""Bands of an item by common name: where they are and how their numbers become physical values.

Metadata differ between items of one collection, so everything is resolved per item: STAC 1.1 ``bands``, STAC 1.0
``eo:bands`` with ``raster:bands``, then what the catalog's YAML says where the item is silent. Names go the other way
round: the YAML's names count first, since items repeat common names (three bands called ``rededge``). What all of them
leave out the collection's ``item_assets`` say, and of scale and offset at last the file (`geoml.io.cog.scaling`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pystac

from geoml.errors import DataError, InputError
from geoml.io.georef import Projection
from geoml.io.stac.asset_projection import projection
from geoml.io.stac.assets import data_type, rasters, why_none
from geoml.io.stac.catalog import BandMeta, Catalog, OffsetRule, Profile
from geoml.io.stac.provenance import elsewhere, signed
from geoml.io.stores.sign import sign_href
from geoml.io.units import unit
from geoml.texts import listed

_GSD = ("gsd", "raster:spatial_resolution", "spatial_resolution")


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
    keys: bool = True  # an object is asked for with the user's keys; False: as anybody could
    root: str | None = None
    checksum: str | None = None  # file:checksum of the asset, a multihash
    unit: str | None = None  # of physical values
    projection: Projection | None = None  # what the item says of the file's place
    nodata_too: tuple[float, ...] = ()  # what others say beside `nodata`: all of them count
    file_scale: bool = field(default=False, compare=False)  # nobody but the file can say it; `scale` is neutral
    file_offset: bool = field(default=False, compare=False)

    @property
    def no_data(self) -> tuple[float, ...]:
        """All values that item and catalog call no data."""
        return self.nodata_too if self.nodata is None else (self.nodata, *self.nodata_too)


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """The quality band of one item: a pixel is bad by its value (``values``) or by any of its bits (``bits``)."""

    band: BandSpec
    kind: Literal["values", "bits"]
    bad_values: tuple[int, ...] = ()
    bad_bits: tuple[int, ...] = ()


def sign(spec: BandSpec, *, fresh: bool = False) -> str:
    """The href to read now, signed where the catalog asks for it. Call it just before a read; ``fresh`` after a 403.

    Raises TransientError when the signing service does not answer, DataError when it refuses.
    """
    return sign_href(spec.href, spec.sign, fresh=fresh) if spec.sign else spec.href


def band_specs(item: pystac.Item, profile: Profile, catalog: Catalog) -> dict[str, BandSpec]:
    """Bands of ``item`` by name: common name, else the band's own name, else the asset key.

    Assets that the profile lists come first; where two bands claim one name the first keeps it and the other goes by
    its own name. Raises DataError for metadata that are no numbers or an unreadable processing baseline.
    """
    found: dict[str, BandSpec] = {}
    for key, metas in profile.bands.items():
        if key in item.assets:
            declared = _declared(item.assets[key])
            for meta in metas:
                band = declared[meta.index - 1] if meta.index <= len(declared) else {}
                found.setdefault(meta.name, _spec(item, key, meta.name, meta.index, band, meta, profile, catalog))
    for key in rasters(item, skip=profile.bands):
        declared = _declared(item.assets[key])
        for index, band in enumerate(declared or [{}], start=1):
            names = [*_first(band, "eo:common_name", "common_name"), *_first(band, "name")]
            names += [key] if len(declared) < 2 else []
            name = next((n for n in names if isinstance(n, str) and n not in found), None)
            if name is not None:
                found[name] = _spec(item, key, name, index, band, None, profile, catalog)
    return found


def mask_spec(item: pystac.Item, profile: Profile, catalog: Catalog) -> MaskSpec | None:
    """The quality band that the profile names, with no scale and no offset; None when the profile has none.

    Raises DataError when the item lacks the asset: unmasked clouds would pass for ground.
    """
    rule = profile.mask
    if rule is None:
        return None
    asset = item.assets.get(rule.asset)
    if asset is None:
        raise DataError(f"item {item.id}: no asset {rule.asset!r} for the quality mask; it has {_listing(item.assets)}")
    declared = _declared(asset)
    band = declared[rule.index - 1] if rule.index <= len(declared) else {}
    nodata = _number(item, rule.asset, "nodata", _first(band, "nodata"))
    spec = BandSpec(
        item=item.id,
        asset=rule.asset,
        href=_href(asset),
        name=rule.asset,
        index=rule.index,
        dtype=next(map(data_type, _first(band, "data_type")), None),
        nodata=nodata if rule.nodata is None else rule.nodata,
        nodata_too=() if nodata is None or rule.nodata in (None, nodata) else (nodata,),
        gsd=_gsd(*_first(band, *_GSD)),
        **_trust(item, _href(asset), profile, catalog),
        root=str(catalog.root) if catalog.root else None,
        checksum=_checksum(asset),
        projection=projection(item, asset),
    )
    if rule.kind == "values":
        return MaskSpec(spec, "values", bad_values=rule.bad)
    return MaskSpec(spec, "bits", bad_bits=rule.bad)


def select(item: pystac.Item, names: Sequence[str], profile: Profile, catalog: Catalog) -> list[BandSpec]:
    """The bands ``names`` of ``item``, in that order. Raises InputError naming band, item and what the item has."""
    found = band_specs(item, profile, catalog)
    for name in names:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}? " if near else ""
            has = f"{_listing(found)}{why_none(item)}"
            raise InputError(f"bands: item {item.id} has no band {name!r}; {hint}it has {has}")
    return [found[name] for name in names]


def _trust(item: pystac.Item, href: str, profile: Profile, catalog: Catalog) -> dict[str, Any]:
    """What an item may ask for. A YAML's tokens are for its own catalog, not for documents elsewhere."""
    remote = elsewhere(item, catalog)
    linked = remote and not catalog.remote and catalog.kind == "static"
    return {"remote": remote, "keys": signed(href, item, catalog), "sign": None if linked else profile.sign}


def _listing(names: Iterable[str]) -> str:
    return listed(sorted(names))


def _spec(
    item: pystac.Item,
    key: str,
    name: str,
    index: int,
    band: dict[str, Any],
    meta: BandMeta | None,
    profile: Profile,
    catalog: Catalog,
) -> BandSpec:
    """One band: the item's word first, then the YAML's, then the file's or the neutral value. Nodata of all count.

    What only the collection says came into the item with the search: see `geoml.io.stac.item_assets`.
    """
    given = meta or BandMeta(name=name)

    def number(field: str, keys: tuple[str, ...], otherwise: float | None = None) -> float | None:
        said = _first(band, *keys) or _first(item.properties, f"raster:{field}")
        value = _number(item, key, field, said)
        return otherwise if value is None else value

    scale = number("scale", ("raster:scale", "scale"), given.scale)
    offset = number("offset", ("raster:offset", "offset"), given.offset)
    if scale == 0 or not all(v is None or math.isfinite(v) for v in (scale, offset)):
        raise DataError(f"item {item.id}, asset {key}: scale {scale} and offset {offset}; expected finite, scale not 0")
    if profile.offset_rule and name in profile.offset_rule.bands:
        offset = _ruled(item, profile.offset_rule, offset)
    nodata = number("nodata", ("nodata",))
    more = () if given.nodata is None or nodata in (None, given.nodata) else (given.nodata,)
    dtype = next((known for v in _first(band, "data_type") if (known := data_type(v))), data_type(given.dtype))
    asset = item.assets[key]
    return BandSpec(
        item=item.id,
        asset=key,
        href=_href(asset),
        name=name,
        index=index,
        dtype=dtype,
        nodata=given.nodata if nodata is None else nodata,
        scale=1.0 if scale is None else scale,
        offset=offset or 0.0,
        gsd=_gsd(*_first(band, *_GSD), given.gsd, *_first(item.properties, "gsd"), profile.gsd),
        **_trust(item, _href(asset), profile, catalog),
        root=str(catalog.root) if catalog.root else None,
        checksum=_checksum(asset),
        unit=next((u for u in map(unit, _first(band, "unit")) if u), given.unit),
        projection=projection(item, asset),
        nodata_too=more,
        file_scale=scale is None,
        file_offset=offset is None,
    )


def _ruled(item: pystac.Item, rule: OffsetRule, declared: float | None) -> float | None:
    """The offset by the processing baseline; the declared one where the item does not tell its baseline."""
    if any(item.properties.get(flag) is True for flag in rule.applied):
        return 0.0
    text = next(iter(_first(item.properties, *rule.baseline)), None)
    if text is None:
        return declared
    try:
        return rule.offset if float(text) >= rule.since else 0.0
    except (TypeError, ValueError, OverflowError) as err:
        raise DataError(
            f"item {item.id}: processing baseline {repr(text)[:80]}; expected a number such as '05.09'"
        ) from err


def _declared(asset: pystac.Asset) -> list[dict[str, Any]]:
    """What an asset says of its bands, in file order; values of the asset itself are defaults of every band."""
    fields = asset.extra_fields
    keys = ("data_type", "nodata", "gsd", "raster:scale", "raster:offset", "raster:spatial_resolution", "unit")
    common = {k: fields[k] for k in keys if fields.get(k) is not None}
    lists = [fields[k] for k in ("raster:bands", "eo:bands", "bands") if isinstance(fields.get(k), list)]
    count = max((len(bands) for bands in lists), default=1 if common else 0)
    merged: list[dict[str, Any]] = [dict(common) for _ in range(count)]
    for bands in lists:
        for into, band in zip(merged, bands, strict=False):
            into.update({k: v for k, v in band.items() if v is not None} if isinstance(band, dict) else {})
    return merged


def _href(asset: pystac.Asset) -> str:
    """The asset's href; a relative one as seen from its item."""
    if "://" in asset.href or asset.href.startswith(("/", "<")):
        return asset.href
    return asset.get_absolute_href() or asset.href


def _checksum(asset: pystac.Asset) -> str | None:
    value = asset.extra_fields.get("file:checksum")
    return value if isinstance(value, str) else None


def _first(values: dict[str, Any], *keys: str) -> list[Any]:
    """The first value that is given, as a list of one; else an empty list."""
    return [values[k] for k in keys if values.get(k) is not None][:1]


def _gsd(*given: object) -> float | None:
    """The first that is a length in metres; what is none is not known."""
    for value in given:
        with suppress(TypeError, ValueError, OverflowError):
            if value is not None and not isinstance(value, bool) and 0 < (metres := float(value)) < math.inf:  # type: ignore[arg-type]
                return metres
    return None


def _number(item: pystac.Item, key: str, field: str, value: list[Any]) -> float | None:
    """A number, also written as 'nan', 'inf' or '-inf' as STAC allows for nodata."""
    if not value:
        return None
    try:
        return float(value[0] if not isinstance(value[0], bool) else "a truth value")
    except (TypeError, ValueError, OverflowError) as err:
        raise DataError(f"item {item.id}, asset {key}: {field} is {repr(value[0])[:80]}; expected a number") from err
