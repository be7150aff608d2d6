"""What items leave out and their collection says of all of them: ``item_assets``, and ``properties`` before STAC 1.0.

https://github.com/radiantearth/stac-spec/blob/v1.1.0/collection-spec/collection-spec.md#item_assets. Only what says how
to read a file is filled in, and nothing that the item or the catalog's YAML says is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from geoml.io.catalog import BandMeta, Profile

NAMES = ("item_assets", "item-assets")
LISTS = ("bands", "eo:bands", "raster:bands")
"""One entry for each band of a file."""
FIELDS = (
    "type", "roles", "gsd", "data_type", "nodata", "unit",
    "raster:scale", "raster:offset", "raster:spatial_resolution", *LISTS,
)  # fmt: skip
PROPERTIES = ("gsd", "eo:bands", "eo:gsd")
"""Of the commons extension of STAC 0.6 to 0.9; the first two still have a meaning."""


_YAML = {
    "scale": ("raster:scale", "scale"),
    "offset": ("raster:offset", "offset"),
    "gsd": ("gsd", "raster:spatial_resolution", "spatial_resolution"),
    "dtype": ("data_type",),
    "unit": ("unit",),
}
"""Fields of a band in the catalog's YAML, which counts first, and their names in STAC; of nodata all count."""


def fill(item: dict[str, Any], collection: Mapping[str, Any], profile: Profile) -> None:
    """Fill what the assets of an item leave out from its collection, in place."""
    common = collection.get("properties")
    properties, assets = item.get("properties"), item.get("assets")
    if isinstance(common, dict) and isinstance(properties, dict):
        for key in PROPERTIES:
            if key in common:
                properties.setdefault(key, deepcopy(common[key]))
    given = next((v for k in NAMES if isinstance(v := collection.get(k), dict)), None)
    if given is None or not isinstance(assets, dict):
        return
    for key, asset in assets.items():
        if isinstance(asset, dict) and isinstance(said := given.get(key), dict):
            _fill(asset, _without(said, profile.bands.get(key, ())))


def _without(said: Mapping[str, Any], metas: Sequence[BandMeta]) -> dict[str, Any]:
    """What a collection says of an asset, without the numbers that the YAML gives."""
    known = {
        name for field, names in _YAML.items() if any(getattr(m, field) is not None for m in metas) for name in names
    }

    def clear(value: Any) -> Any:
        return {k: v for k, v in value.items() if k not in known} if isinstance(value, dict) else value

    lists = {k: [clear(b) for b in v] for k, v in said.items() if k in LISTS and isinstance(v, list)}
    return {**clear(said), **lists}


def _fill(asset: dict[str, Any], said: Mapping[str, Any]) -> None:
    for field in FIELDS:
        value, own = said.get(field), asset.get(field)
        if value is None:
            continue
        if own is None:
            asset[field] = deepcopy(value)
        elif field in LISTS and isinstance(own, list) and isinstance(value, list):
            _fill_bands(own, value)


def _fill_bands(own: list[Any], said: list[Any]) -> None:
    """Bands by their names where both have them, else by their place in lists of one length."""
    by_name = {b["name"]: b for b in said if isinstance(b, dict) and isinstance(b.get("name"), str)}
    for n, band in enumerate(own):
        if not isinstance(band, dict):
            continue
        name = band.get("name")
        other = by_name.get(name) if isinstance(name, str) and by_name else None
        if other is None and len(own) == len(said) and (name is None or not by_name):
            other = said[n]
        for key, value in other.items() if isinstance(other, dict) else ():
            if band.get(key) is None:
                band[key] = deepcopy(value)
