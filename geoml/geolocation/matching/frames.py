"""Pictures with positions as the map: overlapping frames are placed together, and a picture is found among them.

For a drone that has flown a field before. Frames are matched to each other, the network of what they share and where
they say they are gives each frame its scale and heading (`geoml.geolocation.matching.network`). Its place stays the one
that it tells: what GPS is off by drifts, so a frame knows better than the network what the next one would tell.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoml.cube.homography_fit import view
from geoml.cube.keypoints import MOST, Keypoints, detect
from geoml.cube.preview import contrast
from geoml.cube.resize import reduced
from geoml.geolocation.matching.hough import Hypothesis
from geoml.geolocation.matching.mosaic import Patch, vote
from geoml.geolocation.matching.network import FrameNetwork, Tie, adjust
from geoml.geolocation.matching.prior import Prior
from geoml.grid import sphere
from geoml.grid.homography import apply, middle

SIDE = 640
"""Pixels of a frame's longer side when it is matched."""
NEIGHBOURS = 10
"""Nearest reference keypoints of each one of the picture: several frames show a place."""
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


class FrameReference:
    """Frames at ``lonlat`` (N, 2) degrees, good to ``sigma`` metres; ``network`` places them on the plane ``crs``."""

    fixed = True

    def __init__(
        self,
        names: Sequence[str],
        keypoints: Sequence[Keypoints],
        shapes: Sequence[tuple[int, int]],
        lonlat: NDArray[np.float64],
        sigma: float,
        ties: Sequence[Tie],
    ) -> None:
        lon, lat = sphere.mean(*lonlat.T)
        self.names, self.keypoints, self.shapes, self.lonlat = list(names), list(keypoints), list(shapes), lonlat
        self.crs = f"+proj=aeqd +lat_0={lat:.9f} +lon_0={lon:.9f} +datum=WGS84 +units=m"
        x, y = pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True).transform(*lonlat.T)
        self.positions = np.column_stack([x, y])
        self.network: FrameNetwork = adjust(self.shapes, self.positions, ties, sigma=sigma)
        residuals = self.network.residual[np.isfinite(self.network.residual)]
        self.sigma = max(sigma, float(np.median(residuals)) / RAYLEIGH) if len(residuals) else sigma
        self.descriptors = np.concatenate([k.descriptors for k in keypoints])
        self.points = np.concatenate([k.points for k in keypoints])
        self.owner = np.repeat(np.arange(len(keypoints)), [len(k) for k in keypoints])
        header = json.dumps([self.names, [list(s) for s in self.shapes], sigma]).encode()
        self.key = hashlib.sha256(
            header + self.points.tobytes() + self.descriptors.tobytes() + lonlat.tobytes()
        ).hexdigest()[:24]

    def search(
        self, picture: Keypoints, shape: tuple[int, int], most: int, prior: Prior | None = None
    ) -> list[Hypothesis]:
        """See `KeypointReference`. With a prior only frames that it reaches are searched."""
        rows = None
        if prior is not None:
            lon, lat = self.lonlat.T
            reach = np.array([self._reach(k) for k in range(len(self.names))])
            rows = np.flatnonzero(prior.reaches(lon, lat, reach)[self.owner])
        return vote(picture, Keypoints(self.points, self.descriptors), rows, self.owner, NEIGHBOURS, shape, most)

    def patch_at(self, hypothesis: Hypothesis, shape: tuple[int, int]) -> Patch:
        """See `geoml.geolocation.matching.mosaic.KeypointReference`: the whole frame of the hypothesis."""
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


def frame_keypoints(image: NDArray[np.uint8]) -> tuple[Keypoints, tuple[int, int]]:
    """Keypoints of a picture reduced to ``SIDE`` and stretched, and its reduced (rows, columns)."""
    small, _ = reduced(image, SIDE)
    return detect(contrast(small), most=MOST), (small.shape[0], small.shape[1])


def overlaps(keypoints: Sequence[Keypoints], shapes: Sequence[tuple[int, int]]) -> list[Tie]:
    """What each two of the frames share, where they share enough."""
    ties = []
    strongest = [k.take(slice(STRONGEST)) for k in keypoints]
    for i, j in itertools.combinations(range(len(keypoints)), 2):
        first = view(strongest[i], strongest[j], shapes[i], within=WITHIN)
        if first is None or first.count < AGREE:
            continue
        shared = view(keypoints[i], keypoints[j], shapes[i], within=WITHIN)
        if shared is not None and shared.count >= TIED:
            which = slice(None, None, max(1, shared.count // POINTS))
            ties.append(Tie(i, j, shared.source[which], shared.target[which]))
    return ties
