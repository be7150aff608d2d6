"""True and false candidates of a reference itself, to choose its acceptance by: no other labels are needed.

True: a piece of the map, turned, scaled, tilted and noisy, is looked up and found where it was cut; of frames, two that
the network says overlap. False: what such pictures are wrongly found in, and mirror images, ground of the same kind
that is nowhere: so decoys are made for a database of proteins (Elias and Gygi 2007, https://doi.org/10.1038/nmeth1019).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from geoml.cube.homography_fit import view
from geoml.cube.keypoints import MOST, detect, mirrored
from geoml.cube.preview import contrast
from geoml.cube.resize import opencv
from geoml.errors import NothingFound
from geoml.geolocation.matching.acceptance import Acceptance, fit_acceptance
from geoml.geolocation.matching.frames import FrameReference
from geoml.geolocation.matching.match import SIDE, WITHIN, MatchOptions, candidates
from geoml.geolocation.matching.mosaic import MapReference
from geoml.grid.homography import Matrix, apply, corners, middle, similarity
from geoml.grid.plane import Window

TRIES = 12
LEAST_VALID = 0.5
"""Share of a made picture that the map must know."""
NOISE = 8.0
"""Grey levels of the noise of a made picture."""
CANDIDATES = 5
"""Candidates of a made picture, and of its mirror image."""
APART = 0.25
"""Sides of a picture from the truth within which a candidate is right."""
WHOLE = 1.0
"""Sides of the larger footprint from which a candidate of two frames is false."""
DECOYS = 8
"""Frames that the mirror image of each frame is matched to."""


def of_frames(reference: FrameReference) -> Acceptance:
    """The acceptance from all pairs of frames that the network places, matched as a picture would be.

    Right is a homography that puts the middle of one where the network has it, to within ``APART`` of a footprint's
    side; false is one that is off by ``WHOLE`` sides or more, whether the frames overlap or not. Between them it may as
    well be the network that is wrong, which lays similarities on positions of GPS: such pairs say nothing and are left
    out. The mirror image of each frame is false wherever it is found. Raises DataError without a right pair.
    """
    inliers = _decoys(reference)
    right = [False] * len(inliers)
    matrices, shapes = reference.network.matrices, reference.shapes
    for i, first in enumerate(matrices):
        for j, second in enumerate(matrices):
            if i >= j or first is None or second is None:
                continue
            fitted = view(reference.keypoints[i], reference.keypoints[j], shapes[i], within=WITHIN)
            if fitted is None:
                continue
            away = apply(first, middle(shapes[i])) - apply(second @ fitted.matrix, middle(shapes[i]))
            sides = float(np.hypot(*away[0])) / max(_side(first, shapes[i]), _side(second, shapes[j]))
            if sides < APART or sides >= WHOLE:
                inliers.append(fitted.count)
                right.append(sides < APART)
    return fit_acceptance(np.array(inliers, np.int64), np.array(right, bool))


def _decoys(reference: FrameReference) -> list[int]:
    """Inliers of the mirror image of each frame in the next ``DECOYS`` ones, 0 where no view is plausible."""
    count, inliers = len(reference.keypoints), []
    for i, (keypoints, shape) in enumerate(zip(reference.keypoints, reference.shapes, strict=True)):
        decoy = mirrored(keypoints, shape[1])
        for j in sorted({(i + k) % count for k in range(min(DECOYS, count))}):
            fitted = view(decoy, reference.keypoints[j], shape, within=WITHIN)
            inliers.append(0 if fitted is None else fitted.count)
    return inliers


def _side(matrix: Matrix, shape: tuple[int, int]) -> float:
    """The longest side of a footprint."""
    outline = apply(matrix, corners(shape))
    return float(np.hypot(*(outline - np.roll(outline, 1, 0)).T).max())


def of_map(
    reference: MapReference,
    *,
    side: int = SIDE,
    tries: int = TRIES,
    options: MatchOptions | None = None,
    seed: int = 0,
) -> Acceptance:
    """The acceptance from ``tries`` made pictures of at most ``side`` pixels, cut anywhere in the map.

    Their best true candidate counts, and all their false ones with those of their mirror images.
    Raises NothingFound if the map has too little to cut from, DataError if a kind is missing.
    """
    options = options or MatchOptions(candidates=CANDIDATES)
    rng = np.random.default_rng(seed)
    inliers, right = [], []
    height, width = reference.geobox.shape
    side = min(side, int(min(height, width) / 2))
    left = tries
    for _ in range(10 * tries):
        made = _made(reference, side, rng) if left else None
        if made is None:
            continue
        left -= 1
        image, truth = made
        shape = (image.shape[0], image.shape[1])
        keypoints = detect(contrast(image), most=MOST)
        goal = apply(truth, middle(shape))
        length = float(np.hypot(*np.diff(apply(truth, corners(shape))[:2], axis=0)[0]))
        tried = candidates(keypoints, shape, reference, None, options)
        good = [bool(np.hypot(*(apply(c.matrix, middle(shape)) - goal)[0]) < APART * length) for c in tried]
        best = max((c.inliers for c, ok in zip(tried, good, strict=True) if ok), default=None)
        decoy = candidates(mirrored(keypoints, side), shape, reference, None, options)
        wrong = [c.inliers for c, ok in zip(tried, good, strict=True) if not ok] + [c.inliers for c in decoy]
        wrong += [0] * (options.candidates - len(decoy))  # hypotheses that no view came of
        inliers += wrong if best is None else [*wrong, best]
        right += [False] * len(wrong) if best is None else [*[False] * len(wrong), True]
    if not inliers:
        raise NothingFound("acceptance: the reference has no place of known pixels to cut pictures from")
    return fit_acceptance(np.array(inliers, np.int64), np.array(right, bool))


def _made(reference: MapReference, side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Matrix] | None:
    """A picture of the map and the matrix from its pixels to the map's; None if too little is known there."""
    height, width = reference.geobox.shape
    scale = float(np.exp(rng.uniform(math.log(0.7), math.log(1.4))))
    angle = float(rng.uniform(0, math.tau))
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    truth = similarity(scale, angle, 0, 0)
    truth[2, :2] = rng.uniform(-0.1, 0.1, 2) / side
    truth[:2, 2] = 0
    shift = np.eye(3)
    shift[:2, 2] = (x, y) - apply(truth, np.array([[side / 2, side / 2]]))[0]
    truth = shift @ truth
    outline = apply(truth, corners((side, side)))
    low, high = np.floor(outline.min(0)).astype(int) - 2, np.ceil(outline.max(0)).astype(int) + 2
    window = Window(int(low[1]), int(low[0]), int(high[1]), int(high[0])).intersect(Window(0, 0, height, width))
    if window.empty:
        return None
    piece, valid = reference.mosaic.picture(window, 1.0)
    back = np.array([[1, 0, -window.x0], [0, 1, -window.y0], [0, 0, 1.0]]) @ truth
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the middles of pixels
    cv2 = opencv()
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    matrix = np.linalg.inv(half) @ back @ half
    visible = cv2.warpPerspective(
        valid.view(np.uint8), matrix, (side, side), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    if visible.mean() < LEAST_VALID:
        return None
    image = cv2.warpPerspective(piece, matrix, (side, side), flags=flags).astype(np.float32)
    image += rng.normal(0, NOISE, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), truth
