"""Which making of an item a run has used."""

from __future__ import annotations

from contextlib import suppress

import pystac

from geoml.io.stac.times import instant

PROCESSING = ("s2:processing_baseline", "processing:version")
"""Properties that say which processing made an item."""


def item_version(item: pystac.Item) -> str:
    """What changes when an item is made again under its id: ``updated``, else its time, and its processing baseline."""
    said = item.properties
    when = str(said.get("updated") or said.get("datetime"))
    with suppress(ValueError):  # one instant is written in many ways, also by a table that it went through
        when = instant(when).isoformat()
    return " ".join([when, *(str(said[k]) for k in PROCESSING if said.get(k) is not None)])
