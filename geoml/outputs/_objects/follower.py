"""Objects of a series of days, each followed from the day on which it was found first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geoml.engine.following import FollowedDay
from geoml.grid.plane import Block
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.looked import looked_share
from geoml.io.tables.sightings import read_seen, read_sightings, write_sightings
from geoml.outputs._objects.tables import FEATURES
from geoml.texts import listed
from geoml.vector.sightings import Sightings, sighted


class ObjectFollower:
    """`geoml.engine.following.Follower` of objects; where a day looked, the valid counts of its blocks say.

    The recall of a class is the one that its card was given on validation data.
    """

    def __init__(self, card: MapCard) -> None:
        self.card = card
        known = card.detection.classes if card.detection else {}
        self.recall = {c.value: known[c.name].recall if c.name in known else None for c in card.classes}

    @property
    def warning(self) -> str:
        """Names the classes of which nothing is ever closed."""
        unknown = [c.name for c in self.card.classes if self.recall[c.value] is None]
        if not unknown:
            return ""
        return f"{self.card.name}: the recall of {listed(unknown)} is not known, so tracks of them stay open"

    def empty(self) -> Sightings:
        """No objects yet."""
        return Sightings.empty()

    def look(self, before: Sightings, day: FollowedDay) -> tuple[Sightings, Sequence[str]]:
        """An object that is found again has the id of the day before. Raises DataError."""

        def valid(block: Block) -> Path | None:
            return day.fetch(f"cogs/{block.id}/valid.tif") if block.id in day.done else None

        zones = [(zone.plane, zone.geometry) for zone in day.plan.zones]
        seen, size = read_seen(day.fetch(FEATURES)), day.plan.recipe.block_size
        after, ids = sighted(
            before, seen, np.datetime64(day.day), lambda boxes: looked_share(boxes, zones, size, valid), self.recall
        )
        return after, [str(name) for name in ids]

    def read(self, path: Path) -> Sightings:
        """What `write` wrote. Raises DataError."""
        return read_sightings(path)

    def write(self, rows: Sightings, path: Path) -> None:
        """Write objects as GeoParquet. Raises DataError."""
        write_sightings(rows, self.card, self.recall, path)
