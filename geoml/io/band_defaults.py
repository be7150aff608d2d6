"""What a collection's ``item_assets`` say of the numbers of bands, kept with each item until its bands are read.

Items leave out what their collection says once (STAC 1.1, and the item-assets extension before it). Workers read items
from a table and never see the collection, so its words travel in a field of each asset.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from geoml.errors import DataError, InputError

log = logging.getLogger(__name__)

KEY = "geoml:item_assets"
"""Field of an asset."""

MOST = 2**18
"""Characters of what is said of one asset: it is kept with every item."""

LISTS = ("raster:bands", "eo:bands", "bands")
NUMBERS = ("data_type", "nodata", "unit", "gsd", "raster:scale", "raster:offset", "raster:spatial_resolution")


class Collections:
    """``item_assets`` by collection, each asked for once. ``get`` reads the document of an href; None: none is read."""

    def __init__(
        self, get: Callable[[str], dict[str, Any]] | None, known: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._get = get
        self._known: dict[str, dict[str, dict[str, Any]]] = {}
        for name, document in (known or {}).items():
            self.learn(name, document)

    def learn(self, collection: str, document: Mapping[str, Any]) -> None:
        """Remember what a collection's document says."""
        self._known[collection] = _entries(document.get("item_assets"))

    def describe(self, items: Iterable[dict[str, Any]], place: str | None = None) -> None:
        """Put into each item what its collection says.

        A collection that was not seen yet is read from ``place``/ID, else from where the item's link ``collection``
        leads. Raises TransientError when it does not answer; one that is not there says nothing.
        """
        for item in items:
            name = item.get("collection")
            if not isinstance(name, str):
                continue
            if name not in self._known:
                href = f"{place}/{quote(name, safe='')}" if place else _link(item)
                self.learn(name, _document(self._get, href) if href and self._get else {})
            said, assets = self._known[name], item.get("assets")
            for key, asset in assets.items() if said and isinstance(assets, dict) else ():
                if isinstance(asset, dict) and key in said:
                    asset[KEY] = said[key]


def _document(get: Callable[[str], dict[str, Any]], href: str) -> dict[str, Any]:
    try:
        return get(href)
    except (DataError, InputError) as err:
        log.info("no item_assets: %s", err)
        return {}


def of_band(asset: Mapping[str, Any], band: Mapping[str, Any], index: int) -> dict[str, Any]:
    """What the collection says of band ``index`` (from 1) of an asset, which the item itself describes as ``band``.

    The collection's band of the same name, where both have names; else the one at the same place.
    """
    said = asset.get(KEY)
    if not isinstance(said, dict):
        return {}
    found = {k: v for k, v in said.items() if k not in LISTS and v is not None}
    for name in LISTS:
        listed = [b for b in said.get(name) or () if isinstance(b, dict)] if isinstance(said.get(name), list) else []
        same = [b for b in listed if band.get("name") is not None and b.get("name") == band["name"]]
        own = (same or listed[index - 1 : index]) if same or not _named(band, listed) else []
        for each in own[:1]:
            found |= {k: v for k, v in each.items() if v is not None}
    return found


def _named(band: Mapping[str, Any], listed: Iterable[Mapping[str, Any]]) -> bool:
    """Whether names can tell the bands apart."""
    return band.get("name") is not None and all(b.get("name") is not None for b in listed)


def _entries(said: Any) -> dict[str, dict[str, Any]]:
    """Of each asset what ``item_assets`` say of numbers; an entry that is larger than any honest one says nothing."""
    found = {}
    for key, entry in said.items() if isinstance(said, dict) else ():
        fields = (
            {k: entry[k] for k in (*LISTS, *NUMBERS) if entry.get(k) is not None} if isinstance(entry, dict) else {}
        )
        if fields and len(str(fields)) <= MOST:
            found[str(key)] = fields
    return found


def _link(item: Mapping[str, Any]) -> str | None:
    links = item.get("links")
    found = [k for k in links if isinstance(k, dict)] if isinstance(links, list) else []
    return next((str(k["href"]) for k in found if k.get("rel") == "collection" and k.get("href")), None)
