"""Pictures with positions as the map: overlapping frames are placed together, and a picture is found among them.

For a drone that has flown a field before. Frames are matched to each other, the network of what they share and where
they say they are gives each frame its scale and heading (`geoml.geolocation.matching.network`). Its place stays the one
that it tells: what GPS is off by drifts, so a frame knows better than the network what the next one would tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoml.errors import InputError, NothingFound
from geoml.geolocation.matching.fit import fit
from geoml.geolocation.matching.homography import apply, middle, problem
from geoml.geolocation.matching.hough import Hypothesis
from geoml.geolocation.matching.keypoints import MOST, Keypoints, detect, match, nearest
from geoml.geolocation.matching.mosaic import ASKED, Patch, contrast, voted
from geoml.geolocation.matching.network import FrameNetwork, Tie, adjust
from geoml.geolocation.matching.prior import Prior
from geoml.geolocation.pictures.resize import reduced
from geoml.grid import sphere

SIDE = 640
"""Pixels of a frame's longer side when it is matched."""
NEIGHBOURS = 10
"""Reference keypoints asked for each one of the picture: a place is seen by several frames."""
STRONGEST = 1000
"""Keypoints of a frame that take part in the first look at two frames."""
AGREE = 6
"""Inliers of the first look from which all keypoints are matched."""
TIED = 20
"""Inliers of all keypoints from which two frames count as overlapping: false pairs reach eight."""
POINTS = 60
"""Tie points kept for each pair."""
RAYLEIGH = 1.1774
"""Median length of a two-dimensional error for each standard deviation along an axis."""
WITHIN = 4.0
"""Pixels of agreement between frames: ground is not flat, lenses are not perfect."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture (H, W, 3) or (H, W) uint8, upright, and where it says it was taken, in degrees."""

    name: str
    image: NDArray[np.uint8]
    lon: float
    lat: float


class FrameReference:
    """Frames with positions; made by :func:`frames`. ``network`` places them on the plane ``crs``, in metres."""

    fixed = True

    def __init__(
        self,
        names: Sequence[str],
        keypoints: Sequence[Keypoints],
        shapes: Sequence[tuple[int, int]],
        lonlat: NDArray[np.float64],
        sigma: float,
        ties: Sequence[Tie] | None = None,
    ) -> None:
        lon, lat = sphere.mean(*lonlat.T)
        self.names, self.keypoints, self.shapes, self.lonlat = list(names), list(keypoints), list(shapes), lonlat
        self.crs = f"+proj=aeqd +lat_0={lat:.9f} +lon_0={lon:.9f} +datum=WGS84 +units=m"
        x, y = pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True).transform(*lonlat.T)
        self.positions = np.column_stack([x, y])
        self.ties = overlaps(keypoints, shapes) if ties is None else list(ties)
        self.network: FrameNetwork = adjust(self.shapes, self.positions, self.ties, sigma=sigma)
        known = self.network.residual[np.isfinite(self.network.residual)]
        self.sigma = max(sigma, float(np.median(known)) / RAYLEIGH) if len(known) else sigma
        self.descriptors = np.concatenate([k.descriptors for k in keypoints])
        self.points = np.concatenate([k.points for k in keypoints])
        self.owner = np.repeat(np.arange(len(keypoints)), [len(k) for k in keypoints])
        told = json.dumps([self.names, [list(s) for s in self.shapes], sigma]).encode()
        self.key = hashlib.sha256(
            told + self.points.tobytes() + self.descriptors.tobytes() + lonlat.tobytes()
        ).hexdigest()[:24]

    def search(
        self, picture: Keypoints, shape: tuple[int, int], most: int, prior: Prior | None = None
    ) -> list[Hypothesis]:
        """See `KeypointReference`. With a prior only frames that it reaches are searched."""
        where = np.arange(len(self.points))
        if prior is not None:
            lon, lat = self.lonlat.T
            reach = np.array([self._reach(k) for k in range(len(self.names))])
            where = where[prior.reaches(lon, lat, reach)[self.owner]]
        asked = picture.take(slice(ASKED))
        if len(where) <= NEIGHBOURS or not len(asked):
            return []
        near, distance = nearest(asked.descriptors, self.descriptors[where], NEIGHBOURS + 1)
        place = where[near[:, :-1].ravel()]
        return voted(asked, self.points[place], distance, self.owner[place], shape, most)

    def around(self, hypothesis: Hypothesis, shape: tuple[int, int]) -> Patch:
        """See `geoml.geolocation.matching.mosaic.KeypointReference`: the whole frame that the hypothesis speaks of."""
        k = hypothesis.group
        matrix = self.network.matrices[k]
        if matrix is None:
            return Patch(self.keypoints[k], np.eye(3), np.full((3, 3), np.nan), self.names[k])
        plane = matrix.copy()
        plane[:2, 2] += self.positions[k] - apply(matrix, middle(self.shapes[k]))[0]
        return Patch(self.keypoints[k], np.eye(3), plane, self.names[k], self.sigma)

    def _reach(self, k: int) -> float:
        """Metres around a frame in which it may see something; unknown without a scale."""
        matrix = self.network.matrices[k]
        if matrix is None:
            return np.inf
        return float(np.hypot(*(apply(matrix, np.zeros((1, 2))) - apply(matrix, middle(self.shapes[k])))[0]))


def frames(given: Sequence[Frame], *, sigma: float = 5.0, most: int = MOST) -> FrameReference:
    """The reference of frames, whose positions are good to ``sigma`` metres (one standard deviation).

    Raises InputError for a position that is none, NothingFound without frames or keypoints, MissingExtra.
    """
    if not given:
        raise NothingFound("frames: none given")
    lonlat = np.array([(f.lon, f.lat) for f in given], float)
    for frame, (lon, lat) in zip(given, lonlat, strict=True):
        if not (np.isfinite((lon, lat)).all() and abs(lon) <= 180 and abs(lat) < 90):
            raise InputError(f"{frame.name}: position {lon}, {lat}; expected degrees")
    keypoints, shapes = [], []
    for frame in given:
        found, shape = picture(frame.image, most)
        keypoints.append(found)
        shapes.append(shape)
    if not any(len(k) for k in keypoints):
        raise NothingFound(f"{given[0].name}: no keypoints in any of {len(given)} frames")
    return FrameReference([f.name for f in given], keypoints, shapes, lonlat, sigma)


def picture(image: NDArray[np.uint8], most: int = MOST) -> tuple[Keypoints, tuple[int, int]]:
    """Keypoints of a picture reduced to ``SIDE`` and stretched, and its reduced (rows, columns)."""
    small, _ = reduced(image, SIDE)
    return detect(contrast(small), most=most), (small.shape[0], small.shape[1])


def overlaps(keypoints: Sequence[Keypoints], shapes: Sequence[tuple[int, int]]) -> list[Tie]:
    """What each two of the frames share, where they share enough."""
    ties = []
    few = [k.take(slice(STRONGEST)) for k in keypoints]
    for i in range(len(few)):
        for j in range(i + 1, len(few)):
            if _shared(few[i], few[j], shapes[i], AGREE) is None:
                continue
            found = _shared(keypoints[i], keypoints[j], shapes[i], TIED)
            if found is None:
                continue
            which = slice(None, None, max(1, len(found[0]) // POINTS))
            ties.append(Tie(i, j, found[0][which], found[1][which]))
    return ties


def _shared(
    first: Keypoints, second: Keypoints, shape: tuple[int, int], least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(N, 2) pixels in either picture of what a plausible view shares, None below ``least`` of them."""
    pairs = match(first, second)
    if len(pairs) < least:
        return None
    a, b = first.xy[pairs[:, 0]], second.xy[pairs[:, 1]]
    found = fit(a, b, "homography", within=WITHIN)
    if found is None or found.count < least or problem(found.matrix, shape):
        return None
    return a[found.inliers].astype(float), b[found.inliers].astype(float)
