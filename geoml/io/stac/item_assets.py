"""Fields that items inherit from their collection: ``item_assets``, and ``properties`` before STAC 1.0.

https://github.com/radiantearth/stac-spec/blob/v1.1.0/collection-spec/collection-spec.md#item_assets. Only what says how
to read a file is filled in, and nothing that the item or the catalog's YAML says, under whatever name, is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from geoml.io.stac.catalog import BandMeta, Profile
from geoml.io.stac.item import Document

NAMES = ("item_assets", "item-assets")
LISTS = ("bands", "eo:bands", "raster:bands")
"""One entry for each band of a file."""
FIELDS = ("type", "roles", *LISTS)
PROPERTIES = ("gsd", "eo:bands")
"""Of the commons extension of STAC 0.6 to 0.9."""

NUMBERS = {
    "scale": ("raster:scale", "scale"),
    "offset": ("raster:offset", "offset"),
    "nodata": ("nodata", "raster:nodata"),
    "gsd": ("gsd", "raster:spatial_resolution", "spatial_resolution"),
    "dtype": ("data_type", "raster:data_type"),
    "unit": ("unit",),
}
"""Fields of a band in the catalog's YAML, and their names in STAC."""
MOST = 100_000
"""Characters of an entry; each item takes a copy, and one that is larger than any honest one says nothing."""
FIELD_OF = {name: field for field, names in NUMBERS.items() for name in names}


def fill(item: Document, collection: Mapping[str, Any], profile: Profile) -> None:
    """Fill what the assets of an item leave out from its collection, in place."""
    common = collection.get("properties")
    properties, assets = item.get("properties"), item.get("assets")
    if isinstance(common, dict) and isinstance(properties, dict):
        for key in PROPERTIES:
            if key in common:
                properties.setdefault(key, deepcopy(common[key]))
    entries = next((v for k in NAMES if isinstance(v := collection.get(k), dict)), None)
    if entries is None or not isinstance(assets, dict):
        return
    whole = _declared(properties) - {"gsd"}  # that of an item is of its finest band, so an asset's is better
    for key, asset in assets.items():
        if isinstance(asset, dict) and isinstance(entry := entries.get(key), dict) and len(str(entry)) <= MOST:
            _fill(asset, entry, whole | _of_yaml(profile.bands.get(key, ())))


def _of_yaml(metas: Sequence[BandMeta]) -> set[str]:
    """Fields of the YAML, which go before the collection's; all nodata values count."""
    return {field for m in metas for field in m.model_dump(include=set(NUMBERS), exclude_none=True)} - {"nodata"}


def _declared(thing: object) -> set[str]:
    """The fields that a band, an asset or the properties of an item have, by whatever name."""
    fields = thing.items() if isinstance(thing, dict) else ()
    return {FIELD_OF[k] for k, v in fields if k in FIELD_OF and v is not None}


def _fill(asset: Document, entry: Mapping[str, Any], known: set[str]) -> None:
    own = {key: asset[key] for key in LISTS if isinstance(asset.get(key), list)}
    known = known | _declared(asset)
    length = max((len(bands) for bands in own.values()), default=0)
    at = [known.union(*(_declared(b[n]) for b in own.values() if n < len(b))) for n in range(length)]
    for key, value in entry.items():
        if key in FIELD_OF and FIELD_OF[key] not in known.union(*at):
            asset.setdefault(key, deepcopy(value))
        elif key in LISTS and isinstance(value, list):
            if key in own:
                _fill_bands(own[key], value, at)
            elif asset.get(key) is None:
                bands = enumerate(deepcopy(value))
                asset[key] = [
                    _without(b, at[n] if n < length else known) if isinstance(b, dict) else b for n, b in bands
                ]
        elif key in FIELDS and asset.get(key) is None:
            asset[key] = deepcopy(value)


def _without(band: Mapping[str, Any], known: set[str]) -> Document:
    """A band of the collection without the fields that are known already."""
    return {k: deepcopy(v) for k, v in band.items() if FIELD_OF.get(k) not in known}


def _fill_bands(own: list[Any], others: list[Any], at: Sequence[set[str]]) -> None:
    """Bands by their names where both have them, else by their place in lists of one length."""
    by_name = {b["name"]: b for b in others if isinstance(b, dict) and isinstance(b.get("name"), str)}
    for n, band in enumerate(own):
        if not isinstance(band, dict):
            continue
        name = band.get("name")
        other = by_name.get(name) if isinstance(name, str) else None
        if other is None and len(own) == len(others) and (name is None or not by_name):
            other = others[n]
        for key, value in _without(other, at[n]).items() if isinstance(other, dict) else ():
            if band.get(key) is None:
                band[key] = value
