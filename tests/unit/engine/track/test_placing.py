"""Frames are placed by what does not move, however the camera drifts, and a frame of elsewhere is not placed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.engine.stream.frames import Frame
from geoml.engine.track.placing import Placer, keypoints_of, picture
from geoml.grid.homography import apply, corners
from geoml.testing.films import film, textured


def frame(image: NDArray[np.number], index: int = 0) -> Frame:
    data = np.moveaxis(image, -1, 0)
    ones = (1.0,) * len(data)
    return Frame(index, f"frame {index}", 0.0, data, np.ones(image.shape[:2], bool), ones, (0.0,) * len(data))


def boxes_of(truth: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    return truth[truth[:, 0] == k + 1, 2:6]


def test_frames_of_a_camera_that_drifts_lie_where_they_do() -> None:
    """520 pixels to the side: nothing of the first frame is in sight any more, so the anchor has to follow."""
    made = film(14, drift=400.0, shape=(240, 320), speeds=(0.0, 8.0, -8.0))
    placer = Placer()
    for k, image in enumerate(made.pictures):
        matrix = placer.place(frame(image, k), boxes_of(made.truth, k))
        assert matrix is not None
        off = apply(matrix, corners((240, 320))) - apply(made.matrices[k], corners((240, 320)))
        assert np.abs(off).max() < 2


def test_what_moves_has_no_say() -> None:
    """Half of the picture is a thing that moves and has the best keypoints: with its box the ground decides."""
    still, lorry = textured((240, 320), 1), textured((150, 200), 2)
    still = (still // 2 + 60).astype(np.uint8)
    found = {}
    for masked in (True, False):
        placer, last = Placer(), None
        for k in range(3):
            image = still.copy()
            image[40:190, 40 + 12 * k : 240 + 12 * k] = lorry
            box = np.array([[40.0 + 12 * k, 40, 200, 150]]) if masked else np.zeros((0, 4))
            last = placer.place(frame(image, k), box)
        assert last is not None
        found[masked] = float(np.abs(last - np.eye(3))[:2, 2].max())
    assert found[True] < 0.3
    assert found[False] > 20


def test_a_frame_of_another_place_is_not_placed_and_the_next_one_is() -> None:
    made, none = film(3), np.zeros((0, 4))
    placer = Placer()
    assert placer.place(frame(made.pictures[0]), none) is not None
    assert placer.place(frame(textured((320, 420), 9)), none) is None
    assert placer.place(frame(np.full((320, 420, 3), 90, np.uint8)), none) is None
    assert placer.place(frame(made.pictures[2]), none) is not None


def test_keypoints_keep_off_boxes_and_are_in_pixels_of_the_frame() -> None:
    image = textured((900, 1900), 3)
    box = np.array([[400.0, 300, 600, 300], [-50, -50, 100, 100], [1850, 850, 400, 400]])
    points = keypoints_of(image, np.ones((900, 1900), bool), box).xy
    assert points[:, 0].max() > 1700
    for left, top, width, height in box:
        inside = (points > (left, top)).all(1) & (points < (left + width, top + height)).all(1)
        assert not inside.any()
    assert len(points) > 100


@pytest.mark.parametrize(("bands", "shape"), [(1, (6, 8)), (2, (6, 8)), (3, (6, 8, 3)), (4, (6, 8, 3))])
def test_a_picture_has_one_band_or_three(bands: int, shape: tuple[int, ...]) -> None:
    assert picture(frame(np.zeros((6, 8, bands), np.uint8))).shape == shape
    deep = np.linspace(100, 9000, 48 * bands).reshape(6, 8, bands).astype(np.uint16)
    image = picture(frame(deep))
    assert (image.dtype, image.shape) == (np.uint8, shape)
    assert image.max() == 255
