"""Where a drone or aerial picture lies on a map: search, match, homography, cut out again, and how sure that is.

After EarthMatch (Berton et al. 2024, https://arxiv.org/abs/2405.05422): candidates are matched, the homography says
where to cut the reference again, and what is left after some rounds is accepted by its inliers alone, over a threshold
that was chosen for a precision (`geoml.geolocation.matching.acceptance`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyproj
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geoml.cube.homography_fit import view
from geoml.cube.keypoints import MOST, Keypoints, detect
from geoml.cube.preview import contrast
from geoml.cube.resize import reduced
from geoml.errors import InputError
from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.hough import Hypothesis
from geoml.geolocation.matching.mosaic import KeypointReference, Patch
from geoml.geolocation.matching.prior import LIMIT, Prior
from geoml.grid.homography import Matrix, apply, corners, covariance, middle, problem, scale_at
from geoml.grid.region import from_geometry

SIDE = 640
CANDIDATES = 10
ROUNDS = 4
WITHIN = 3.0
"""Pixels of agreement between the picture and the reference."""
STILL = 2.0
"""Pixels by which corners may move in a round for the rounds to end."""
FLOOR = 0.5
"""Pixels, one standard deviation, that no estimate is better than: the reference's own interpolation and relief."""
CLEAR = 3.0
"""Times the threshold from which further candidates need not be tried."""


@dataclass(frozen=True)
class MatchOptions:
    """How many hypotheses are tried, for how many rounds at most; ``scales``: lowest and highest metres of a pixel of
    the reduced picture."""

    candidates: int = CANDIDATES
    rounds: int = ROUNDS
    scales: tuple[float, float] = (1e-3, 1e4)


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """The answer for one picture.

    ``lon``, ``lat`` of the picture's middle and ``footprint`` (4, 2) lon, lat of its corners (upper left, then
    clockwise) in degrees; ``covariance`` (2, 2) of (east, north) in square metres and ``error`` its one standard
    deviation radius in metres; ``gsd`` metres of a pixel of the picture as given; ``heading`` degrees from north to
    which its upper edge looks. They are set when ``status`` is ok, else ``reason`` says why not and they are NaN.
    ``matrix`` (3, 3) takes pixels of the picture as given to x, y of ``crs``, that of the reference.
    ``inliers`` of the best candidate, ``probability`` that it is right, ``reference`` the piece that it was found in.
    """

    status: Literal["ok", "abstained"]
    reason: str = ""
    inliers: int = 0
    probability: float = 0.0
    lon: float = math.nan
    lat: float = math.nan
    footprint: NDArray[np.float64] = field(default_factory=lambda: np.full((4, 2), np.nan))
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.full((2, 2), np.nan))
    error: float = math.nan
    gsd: float = math.nan
    heading: float = math.nan
    reference: str = ""
    crs: str = ""
    matrix: Matrix = field(default_factory=lambda: np.full((3, 3), np.nan))

    @property
    def polygon(self) -> MultiPolygon:
        """The footprint in CRS84, split at the antimeridian. Raises InputError if there is none."""
        if self.status != "ok":
            raise InputError(f"footprint: there is none, {self.reason}")
        return from_geometry(Polygon(self.footprint))


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A hypothesis after its rounds: ``matrix`` (3, 3) from the reduced picture's pixels to the reference's pixels;
    matched ``source`` (N, 2) and ``target`` (N, 2) in these; NaN in ``plane`` where the piece has no place."""

    inliers: int
    matrix: Matrix
    source: NDArray[np.float64]
    target: NDArray[np.float64]
    patch: Patch


def locate(
    image: NDArray[np.uint8],
    reference: KeypointReference,
    acceptance: Acceptance,
    *,
    prior: Prior | None = None,
    options: MatchOptions | None = None,
) -> Located:
    """Where the picture (H, W) or (H, W, 3) uint8 lies on the reference, of whatever scale and heading it is.

    Raises InputError for another array, MissingExtra, and what reading the reference raises.
    """
    options = options or MatchOptions()
    small, factor = reduced(image, SIDE)
    shape = (small.shape[0], small.shape[1])
    keypoints = detect(contrast(small), most=MOST)
    enough = math.inf if reference.fixed else CLEAR * acceptance.threshold
    tried = candidates(keypoints, shape, reference, prior, options, enough=enough)
    if not tried:
        return Located("abstained", f"no candidate: {len(keypoints)} keypoints, none of the matches agree")
    best = tried[0]
    sure = acceptance.probability(best.inliers)
    silent = Located("abstained", inliers=best.inliers, probability=sure, reference=best.patch.name)
    if best.inliers < acceptance.threshold:
        return replace(silent, reason=f"{best.inliers} inliers; {acceptance.threshold} are needed")
    if not np.isfinite(best.patch.plane).all():
        return replace(silent, reason=f"matches {best.patch.name}, whose scale and heading are not known")
    return _answer(best, silent, shape, factor, reference.crs, prior, options)


def candidates(
    keypoints: Keypoints,
    shape: tuple[int, int],
    reference: KeypointReference,
    prior: Prior | None,
    options: MatchOptions,
    *,
    enough: float = math.inf,
) -> list[Candidate]:
    """The refined hypotheses, most inliers first; ends early at ``enough`` inliers."""
    done: list[Candidate] = []
    for hypothesis in reference.search(keypoints, shape, options.candidates, prior):
        candidate = refined(hypothesis, keypoints, shape, reference, options)
        if candidate is not None:
            done.append(candidate)
            if candidate.inliers >= enough:
                break
    return sorted(done, key=lambda c: -c.inliers)


def refined(
    hypothesis: Hypothesis,
    keypoints: Keypoints,
    shape: tuple[int, int],
    reference: KeypointReference,
    options: MatchOptions,
) -> Candidate | None:
    """Match, fit, cut out again, until the corners stay: the round with the most inliers; None if none is plausible."""
    best: Candidate | None = None
    for _ in range(1 if reference.fixed else options.rounds):
        patch = reference.patch_at(hypothesis, shape)
        fitted = view(keypoints, patch.keypoints, shape, within=WITHIN)
        if fitted is None:
            break
        matrix = patch.base @ fitted.matrix
        matrix = matrix / matrix[2, 2]
        moved = np.abs(apply(matrix, corners(shape)) - apply(hypothesis.matrix, corners(shape))).max()
        if best is None or fitted.count >= best.inliers:
            base = apply(patch.base, fitted.target)
            best = Candidate(fitted.count, matrix, fitted.source, base, patch)
        if moved < STILL * scale_at(matrix, middle(shape)[0]):
            break
        hypothesis = Hypothesis(matrix, hypothesis.group)
    return best


def _answer(
    best: Candidate,
    silent: Located,
    shape: tuple[int, int],
    factor: float,
    crs: str,
    prior: Prior | None,
    options: MatchOptions,
) -> Located:
    plane = best.patch.plane @ best.matrix
    to_lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = (float(v[0]) for v in to_lonlat.transform(*apply(plane, middle(shape)).T))
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return replace(silent, reason="is outside the area of the reference's CRS")
    metric = _metric(apply(plane, middle(shape))[0], lon, lat, crs) @ best.patch.plane
    view = metric @ best.matrix
    reason = problem(view, shape, scales=options.scales, mirrored=True)
    if reason:
        return replace(silent, reason=f"no plausible view: {reason}")
    gsd = scale_at(view, middle(shape)[0])
    floor = (FLOOR * gsd) ** 2 + best.patch.sigma**2
    uncertainty = covariance(view, best.source, apply(metric, best.target), middle(shape)) + floor * np.eye(2)
    if prior is not None:
        far = prior.distance(lon, lat, float(np.trace(uncertainty)) / 2)
        if far > LIMIT:
            return replace(silent, reason=f"{far:.1f} standard deviations from the prior position")
    top = apply(view, np.array([[shape[1] / 2, 0.0]]))[0] - apply(view, middle(shape))[0]
    return replace(
        silent,
        status="ok",
        lon=lon,
        lat=lat,
        footprint=np.column_stack(to_lonlat.transform(*apply(plane, corners(shape)).T)),
        covariance=uncertainty,
        error=math.sqrt(float(np.trace(uncertainty)) / 2),
        gsd=gsd / factor,
        heading=math.degrees(math.atan2(top[0], top[1])) % 360,
        matrix=plane @ np.diag([1 / factor, 1 / factor, 1.0]),
        crs=crs,
    )


def _metric(xy: NDArray[np.float64], lon: float, lat: float, crs: str) -> Matrix:
    """The affine map (3, 3) from x, y of the CRS near ``xy`` to metres east and north of it."""
    plane = f"+proj=aeqd +lat_0={lat:.12f} +lon_0={lon:.12f} +datum=WGS84 +units=m"
    move = pyproj.Transformer.from_crs(crs, plane, always_xy=True)
    step = 1e-5 if pyproj.CRS.from_user_input(crs).is_geographic else 1.0
    x, y = move.transform(xy[0] + step * np.array([0.0, 1, 0]), xy[1] + step * np.array([0.0, 0, 1]))
    linear = np.array([[x[1] - x[0], x[2] - x[0]], [y[1] - y[0], y[2] - y[0]]]) / step
    shift = np.array([x[0], y[0]]) - linear @ xy
    return np.array([[*linear[0], shift[0]], [*linear[1], shift[1]], [0.0, 0.0, 1.0]])
