"""Which photo owns a place on the ground that several show: the one that sees it most nearly from above."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.errors import InputError

CLOSE = 1e-6
"""Metres within which two photos are as near, and the first of them owns."""


def owner(
    places: NDArray[np.float64], nadirs: NDArray[np.float64], footprints: NDArray[np.object_]
) -> NDArray[np.int64]:
    """(n,) the index of the photo that owns each of ``places`` (n, 2): of those whose footprint holds it, the one with
    the nearest nadir, and of equally near ones the first; -1 where no photo shows it.

    ``nadirs`` (p, 2) are the points under the cameras, ``footprints`` (p,) polygons of what photos show, all in metres
    on one plane. Raises InputError for numbers that do not fit.
    """
    if len(nadirs) != len(footprints) or nadirs.shape[1:] != (2,) or places.shape[1:] != (2,):
        raise InputError(f"nadirs, footprints: {nadirs.shape}, {len(footprints)}; expected (p, 2) and p")
    found = np.full(len(places), -1)
    place, photo = shapely.STRtree(shapely.points(places)).query(footprints, predicate="intersects")[::-1]
    far = np.hypot(*(places[place] - nadirs[photo]).T)
    steps = np.round(far / CLOSE)
    order = np.lexsort((photo, steps, place))
    mine, first = np.unique(place[order], return_index=True)
    found[mine] = photo[order][first]
    return found
