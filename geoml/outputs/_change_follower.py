"""Changes of a series of days, each followed from the day on which it was seen first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import shapely
from shapely.geometry import shape

from geoml.engine.following import FollowedDay
from geoml.errors import DataError
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import check_regular
from geoml.io.tables.changes import read_tracks, tracks_frame, write_changes
from geoml.outputs.classes import FEATURES
from geoml.vector.tracks import Tracks, follow


class ChangeFollower:
    """`geoml.engine.following.Follower` of changes; what a day observed is the footprint of its blocks."""

    warning = ""

    def __init__(self, card: MapCard) -> None:
        self.card = card

    def empty(self) -> Tracks:
        """No changes yet."""
        return Tracks.empty()

    def look(self, before: Tracks, day: FollowedDay) -> tuple[Tracks, Sequence[str]]:
        """A change that is seen again has the id of the day before. Raises DataError for files that cannot be read."""
        path = day.fetch(FEATURES)
        try:
            frame = geopandas.read_parquet(check_regular(path))
        except (OSError, ValueError) as err:
            raise DataError(f"{path}: cannot be read ({err})") from err
        seen = shapely.union_all([shape(i.geometry) for i in day.items if i.geometry])
        geometry, value = np.asarray(frame.geometry.array, object), frame["class"].to_numpy(np.uint8)
        after, ids = follow(before, geometry, value, np.datetime64(day.day), seen)
        return after, [str(name) for name in ids]

    def read(self, path: Path) -> Tracks:
        """What `write` wrote. Raises DataError."""
        return read_tracks(path)

    def write(self, rows: Tracks, path: Path) -> None:
        """Write changes as GeoParquet. Raises DataError."""
        write_changes(tracks_frame(rows, self.card), path)
