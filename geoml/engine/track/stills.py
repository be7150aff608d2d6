"""Overlapping photos: what several of them show is counted in the one that looks at it from above."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.engine.track.moments import Moment
from geoml.grid.homography import corners, middle
from geoml.vector.nadirs import owner


def owned(moments: Iterable[Moment]) -> Iterator[tuple[Moment, NDArray[np.bool_]]]:
    """Each photo, and which of its detections (n,) lie where it owns the ground.

    A place belongs to the photo of those that show it whose nadir is nearest: the point below the camera where the log
    has it, else the middle of the photo. All photos are held, their pixels are not.
    """
    photos = list(moments)
    if not photos:
        return
    nadirs, outlines, places = [], [], []
    for photo in photos:
        place = photo.ground.places
        lon, lat = photo.nadir
        known = np.isfinite([lon, lat]).all() and photo.ground.crs is not None
        nadir = (
            photo.ground.metres_of(np.array([[lon, lat]])) if known else place(middle(photo.shape), photo.matrix).metres
        )
        nadirs.append(nadir[0])
        outlines.append(shapely.Polygon(place(corners(photo.shape), photo.matrix).metres))
        places.append(place(photo.found.centres, photo.matrix).metres)
    mine = owner(np.concatenate(places), np.array(nadirs), np.array(outlines, object))
    parts = np.split(mine, np.cumsum([len(p) for p in places])[:-1])
    for k, (photo, part) in enumerate(zip(photos, parts, strict=True)):
        yield photo, part == k
