"""The changes of a series of looks, each followed from the day on which it was seen first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import shapely
from shapely.geometry import shape

from geoml.errors import DataError
from geoml.io import stac
from geoml.io.store import regular
from geoml.vector.tracks import Tracks, follow


def history(days: Mapping[str, Path]) -> tuple[Tracks, dict[Path, list[str]]]:
    """The tracks of the runs in the folders ``days`` (by ISO day), and the ids of the rows of every features file.

    A change that is seen again has the id of the day before. What a day observed is the footprint of its blocks. It is
    told anew from all days, so that a day that comes late finds its place. Raises DataError for files that cannot be
    read.
    """
    tracks, ids = Tracks.empty(), {}
    for day, folder in sorted(days.items()):
        path = folder / "features.parquet"
        try:
            frame = geopandas.read_parquet(regular(path))
        except (OSError, ValueError) as err:
            raise DataError(f"{path}: cannot be read ({err})") from err
        seen = [shape(i.geometry) for i in stac.read_items(folder / "items.parquet") if i.geometry]
        geometry, value = np.asarray(frame.geometry.array, object), frame["class"].to_numpy(np.uint8)
        tracks, names = follow(tracks, geometry, value, np.datetime64(day), shapely.union_all(seen))
        ids[path] = [str(name) for name in names]
    return tracks, ids
