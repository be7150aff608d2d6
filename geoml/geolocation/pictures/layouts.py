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
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """Names of the columns of a list; None where it has none. ``suffix`` is added to names without one."""

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
    """What the columns of a list are. Raises InputError when none holds paths."""
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
    """Finds the pictures of a list: beside it, or in the folders below it where the layouts put them."""

    root: Path
    layout: str
    _folders: list[Path] | None = field(default=None, repr=False)

    def find(self, name: str) -> Path:
        """The path of a picture; beside the list when it is nowhere, so that reading it says so."""
        beside = self.root / name
        if self.layout == "list" or beside.exists() or Path(name).is_absolute():
            return beside
        if self._folders is None:  # folders only: OSV-5M has five million files in two hundred of them
            self._folders = sorted(Path(top) for top, _, _ in os.walk(self.root))
        for place, folder in enumerate(self._folders):
            if (folder / name).exists():
                self._folders.insert(0, self._folders.pop(place))  # neighbours in the list are so in the folders
                return folder / name
        return beside


@dataclass(frozen=True, slots=True)
class EarthLocName:
    """What the name of an EarthLoc picture says.

    ``footprint`` are the four corners (lon, lat), ``lon``, ``lat`` their spherical mean;
    ``orientation`` (degrees) is None where the name leaves it out.
    """

    footprint: tuple[tuple[float, float], ...]
    lon: float
    lat: float
    image_id: str
    time: dt.datetime | None
    orientation: float | None


def earthloc(name: str) -> EarthLocName | None:
    """``@lat1@lon1@…@lat4@lon4@image_id@timestamp@nadir_lat@nadir_lon@sq_km_area@orientation@.jpg``, or None."""
    parts = [p.strip() for p in name.split("@")]
    if len(parts) < 14 or parts[0]:
        return None
    corners = [_finite(p) for p in parts[1:9]]
    lats, lons = [c for c in corners[::2] if c is not None], [c for c in corners[1::2] if c is not None]
    if len(lats) + len(lons) != 8 or max(map(abs, lats)) > 90 or max(map(abs, lons)) > 360:
        return None
    lon, lat = map(float, sphere.mean(lons, lats))
    footprint = tuple((float(sphere.wrap(x)), y) for x, y in zip(lons, lats, strict=True))
    return EarthLocName(footprint, lon, lat, parts[9], _stamp(parts[10]), _finite(_at(parts, 14)))


def _at(parts: Sequence[str], place: int) -> str:
    return parts[place] if place < len(parts) else ""


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _stamp(text: str) -> dt.datetime | None:
    for form in ("%Y%m%d%H%M%S", "%Y%m%d_%H%M%S", "%Y%m%d", "%Y"):
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
    return None
