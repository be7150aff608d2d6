"""Lists of pictures as the public benchmarks lay them out, known by their columns or file names.

- Im2GPS3k, YFCC4k, YFCC26k (https://arxiv.org/abs/1705.04838): a CSV ``IMG_ID,LAT,LON``
- GeoCLIP (https://arxiv.org/abs/2309.16020): a CSV ``IMG_FILE,LAT,LON``
- OSV-5M (https://arxiv.org/abs/2404.18873): a CSV ``id,latitude,longitude,country,region,sub-region,city,…``, pictures
  ``images/SPLIT/NN/ID.jpg``
- UAV-VisLoc (https://arxiv.org/abs/2405.11936): a CSV ``num,filename,date,lat,lon,height,…`` for each flight, frames in
  ``drone/`` beside it, and bounds of the maps in ``satellite_coordinates_range.csv``
- EarthLoc (https://arxiv.org/abs/2403.06758): no list, the name of a picture holds its footprint
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from geoml.errors import InputError
from geoml.grid import sphere
from geoml.texts import listed

_PATHS = (
    "path",
    "href",
    "file",
    "filename",
    "file_name",
    "image",
    "img",
    "picture",
    "photo",
    "url",
    "uri",
    "source_uri",
)
_LON, _LAT = ("lon", "longitude", "lng", "long"), ("lat", "latitude")
_IDS, _TIMES = ("id", "image_id", "img_id", "photo_id"), ("datetime", "time", "timestamp", "date")
_TEXTS = ("text", "caption", "description", "title")
_LABELS = ("country", "region", "sub-region", "city", "sequence")


@dataclass(frozen=True, slots=True)
class ListColumns:
    """Names of the columns of a list; None if it has none. ``suffix`` is added to names without one."""

    layout: str
    path: str
    lon: str | None = None
    lat: str | None = None
    id: str | None = None
    time: str | None = None
    text: str | None = None
    labels: tuple[str, ...] = ()
    suffix: str = ""


def columns(names: Sequence[str], where: str) -> ListColumns:
    """What the columns of a list are. Raises InputError if none holds paths."""
    by = {n.strip().lower(): n for n in names}

    def first(options: Sequence[str]) -> str | None:
        return next((by[o] for o in options if o in by), None)

    labels = tuple(by[n] for n in _LABELS if n in by)
    if {"img_id", "lat", "lon"} <= by.keys():
        return ListColumns("im2gps3k", by["img_id"], by["lon"], by["lat"], by["img_id"], labels=labels)
    if {"img_file", "lat", "lon"} <= by.keys():
        return ListColumns("geoclip", by["img_file"], by["lon"], by["lat"], by["img_file"], labels=labels)
    if {"id", "latitude", "longitude"} <= by.keys() and any(n.startswith("quadtree") for n in by):
        return ListColumns("osv5m", by["id"], by["longitude"], by["latitude"], by["id"], labels=labels, suffix=".jpg")
    if {"filename", "lat", "lon", "height"} <= by.keys() and any(n.startswith(("phi", "kappa")) for n in by):
        at = (by["filename"], by["lon"], by["lat"], by["filename"], by.get("date"))
        return ListColumns("uav-visloc", *at)
    path = first(_PATHS)
    if path is None:
        raise InputError(f"{where}: has the columns {listed(names)}; expected one of {', '.join(_PATHS)}")
    return ListColumns("list", path, first(_LON), first(_LAT), first(_IDS), first(_TIMES), first(_TEXTS), labels=labels)


@dataclass
class Finder:
    """Finds the pictures of a list: next to it, or in the folders below it where the layouts put them."""

    root: Path
    layout: str
    _folders: list[Path] | None = field(default=None, repr=False)

    def find(self, name: str) -> Path:
        """The path of a picture; next to the list when it is nowhere, so that reading it says so."""
        path = self.root / name
        if self.layout == "list" or path.exists() or Path(name).is_absolute():
            return path
        if self._folders is None:  # folders only: OSV-5M has five million files in two hundred of them
            self._folders = sorted(Path(top) for top, _, _ in os.walk(self.root))
        for place, folder in enumerate(self._folders):
            if (folder / name).exists():
                self._folders.insert(0, self._folders.pop(place))  # neighbours in the list are so in the folders
                return folder / name
        return path


def earthloc(name: str) -> tuple[float, float, dt.datetime | None] | None:
    """(lon, lat, time) of a name of EarthLoc, the place in degrees the spherical mean of the footprint's corners; None
    for another name.

    ``@lat1@lon1@…@lat4@lon4@image_id@timestamp@nadir_lat@nadir_lon@sq_km_area@orientation@.jpg``
    """
    parts = [p.strip() for p in name.split("@")]
    if len(parts) < 14 or parts[0]:
        return None
    try:
        lats, lons = (np.array(parts[k:9:2], float) for k in (1, 2))
    except ValueError:
        return None
    if not (np.abs(lats).max() <= 90 and np.abs(lons).max() <= 360):
        return None
    return *sphere.mean(lons, lats), _stamp(parts[10])


def _stamp(text: str) -> dt.datetime | None:
    for form in ("%Y%m%d%H%M%S", "%Y%m%d_%H%M%S", "%Y%m%d", "%Y"):
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    return None
