"""A summary of the items of a run's blocks, taken one at a time; some bytes are kept of each."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from geoml.errors import DataError
from geoml.io.software import MADE_BY
from geoml.io.stac.item import Document
from geoml.io.stac.times import FIELDS, instant

NUMBERS = ("geoml:asked_pixels", "geoml:valid_pixels")
"""Properties that every block has."""
UNLIKE = "geoml:outside_pixels"
"""Pixels that are unlike the training data; only where the model knows what these were."""


class ItemSummary:
    """Sums, extent and what assets have in common."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.asked = self.valid = 0
        self.unlike: int | None = 0
        """None if a block does not say it."""
        self.codes: set[str] = set()
        self.software: list[object] = []
        """``processing:software`` of each block; equal ones are one object."""
        self.made_by: list[object] = []
        """What ran the network of each block, see `geoml.io.software.MADE_BY`; equal ones are one object."""
        self.ends: tuple[Document, Document] | None = None
        """The items that begin first and end last."""
        self.times: tuple[dt.datetime, dt.datetime] | None = None
        self.ranges: dict[str, tuple[float, float]] = {}
        """Smallest and largest stored value over the bands of an asset, of those that say it."""
        self._boxes = [math.inf, math.inf, -math.inf, -math.inf]
        self._crosses = False
        self._common: dict[str, tuple[str, Document]] = {}
        self._same: dict[str, object] = {}

    def add(self, item: Document) -> None:
        """Take the next item. Raises DataError, saying what is missing, for one that is not as it was written."""
        try:
            properties, name = item["properties"], item["id"]
            west, south, east, north = (float(v) for v in item["bbox"])
            numbers = [properties[key] for key in NUMBERS]
            moments = [instant(properties[key]) for key in FIELDS if properties.get(key) is not None]
            assets = {key: _common(asset) for key, asset in item["assets"].items() if key not in self._common}
        except (LookupError, TypeError, ValueError, AttributeError) as err:
            raise DataError(str(err)) from err
        if not all(map(math.isfinite, (west, south, east, north))) or not all(isinstance(n, int) for n in numbers):
            raise DataError("no bounds or no count of pixels")
        if not moments:
            raise DataError(f"item {name}: neither datetime nor start_datetime")
        self.ids.append(name)
        self.asked, self.valid = self.asked + numbers[0], self.valid + numbers[1]
        unlike = properties.get(UNLIKE)
        self.unlike = self.unlike + unlike if isinstance(unlike, int) and self.unlike is not None else None
        if code := properties.get("proj:code"):
            self.codes.add(str(code))
        made = properties.get("processing:software")
        self.software.append(self._same.setdefault(repr(made), made))
        backend = properties.get(MADE_BY)
        self.made_by.append(self._same.setdefault(repr(backend), backend))
        self._boxes = [
            *map(min, self._boxes[:2], (west, south)),
            *map(max, self._boxes[2:], (east, north)),
        ]
        self._crosses |= west > east
        self._add_times(item, min(moments), max(moments))
        for key, asset in item["assets"].items():
            if key in assets or name < self._common[key][0]:
                self._common[key] = name, _common(asset)
            if span := _range(asset):
                low, high = self.ranges.get(key, span)
                self.ranges[key] = min(low, span[0]), max(high, span[1])

    def _add_times(self, item: Document, first: dt.datetime, last: dt.datetime) -> None:
        if self.times is None or self.ends is None:
            self.times, self.ends = (first, last), (item, item)
            return
        earlier, later = first < self.times[0], last > self.times[1]
        self.times = first if earlier else self.times[0], last if later else self.times[1]
        self.ends = item if earlier else self.ends[0], item if later else self.ends[1]

    @property
    def bbox(self) -> list[float]:
        """Bounds of all boxes (degrees); the whole width of the world when one of them crosses the antimeridian."""
        west, south, east, north = self._boxes
        return [-180.0 if self._crosses else west, south, 180.0 if self._crosses else east, north]

    @property
    def item_assets(self) -> dict[str, Any]:
        """What all assets of a key have in common: everything but the file itself and its numbers."""
        return {key: asset for key, (_, asset) in sorted(self._common.items())}


def _common(asset: Document) -> Document:
    value = {k: v for k, v in asset.items() if k not in {"href", "file:size", "file:checksum"}}
    if "bands" in value:
        value["bands"] = [{k: v for k, v in b.items() if k != "statistics"} for b in value["bands"]]
    return value


def _range(asset: Document) -> tuple[float, float] | None:
    said = [b["statistics"] for b in asset.get("bands", ()) if {"minimum", "maximum"} <= b.get("statistics", {}).keys()]
    return (min(s["minimum"] for s in said), max(s["maximum"] for s in said)) if said else None
