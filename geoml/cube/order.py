"""The order in which a mosaic counts items: the same for every block."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pystac

from geoml.io.stac.times import time_of


def in_order(items: Iterable[pystac.Item], composite: str) -> list[pystac.Item]:
    """Items as a mosaic counts them."""
    return sorted(items, key=_newest if composite == "first" else _clearest)


def _clearest(item: pystac.Item) -> tuple[float, datetime, str]:
    cloud = item.properties.get("eo:cloud_cover")
    share = float(cloud) if isinstance(cloud, int | float) and 0 <= cloud <= 100 else 101.0  # unknown comes last
    return share, _when(item), item.id


def _newest(item: pystac.Item) -> tuple[float, str]:
    return -_when(item).timestamp(), item.id


def _when(item: pystac.Item) -> datetime:
    """The time of an item; year 1 when it has none."""
    return time_of(item) or datetime.min.replace(tzinfo=UTC)
