"""Synthetic films with known truth: cars on textured ground, a moving camera, and a model that finds the cars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from geoml.engine.packages.exported import save_exported
from geoml.grid.homography import Matrix, apply, similarity
from geoml.io.cards.map_card import MapCard
from geoml.testing.scenes import card

CAR = (18, 9)
"""Pixels of the ground, length and width: 4.5 m of 0.25 m."""
GSD = 0.25
MARK = 255
"""Red of the pixel in the middle of a car, and of nothing else."""


@dataclass(frozen=True, eq=False)
class MadeFilm:
    """``pictures`` (n, y, x, 3) uint8; ``truth`` rows of MOTChallenge (frame from 1, id from 1, left, top, width,
    height, 1, 0); ``matrices`` (n, 3, 3), pixels of a frame to those of the first; ``places`` (n, cars, 2), centres
    in pixels of the ground; ``ground`` (y, x, 3) uint8 without cars; ``corner`` (3, 3), pixels of the first frame to
    those of the ground."""

    pictures: NDArray[np.uint8]
    truth: NDArray[np.float64]
    matrices: NDArray[np.float64]
    places: NDArray[np.float64]
    ground: NDArray[np.uint8]
    corner: Matrix

    def write(self, folder: Path) -> Path:
        """The pictures as PNG, ``0001.png`` and so on."""
        folder.mkdir(parents=True, exist_ok=True)
        for k, picture in enumerate(self.pictures, 1):
            Image.fromarray(picture).save(folder / f"{k:04d}.png")
        return folder

    def write_video(self, path: Path, fps: float = 10.0) -> Path:
        """The pictures as a film without loss (FFV1 in AVI)."""
        import cv2

        size = self.pictures.shape[2], self.pictures.shape[1]
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, int.from_bytes(b"FFV1", "little"), fps, size)
        for picture in self.pictures:
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
        writer.release()
        return path

    def write_truth(self, path: Path) -> Path:
        """True boxes as MOTChallenge text."""
        np.savetxt(path, self.truth, delimiter=",", fmt="%.4f")
        return path

    def write_matrices(self, path: Path) -> Path:
        """Homographies by frame, from 1, without the first."""
        rows = [[k, *m.ravel()] for k, m in enumerate(self.matrices[1:], 2)]
        np.savetxt(path, rows, delimiter=",", fmt="%.17g")
        return path


def textured(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """(y, x, 3) uint8 with keypoints of many sizes, from 1 to 230."""
    random = np.random.default_rng(seed)
    total = np.full(shape, 115.0)
    for sigma, weight in ((1, 12), (3, 14), (9, 16)):
        noise = scipy.ndimage.gaussian_filter(random.normal(size=shape), sigma)
        total += weight * noise / noise.std()
    return np.repeat(np.clip(total, 1, 230).astype(np.uint8)[..., None], 3, -1)


def film(
    frames: int,
    *,
    fps: float = 10.0,
    shape: tuple[int, int] = (320, 420),
    speeds: Sequence[float] = (0.0, 0.0, 6.0, 10.0, 14.0, -9.0),
    drift: float = 3.0,
    seed: int = 0,
) -> MadeFilm:
    """Cars on lanes of a ground, one for each of ``speeds`` in m/s, some of which do not move.

    The camera drifts by ``drift`` pixels a second and turns a little.
    """
    import cv2

    beyond = 160 + int(1.2 * drift * frames / fps)
    ground = textured((shape[0] + beyond, shape[1] + beyond), seed)
    corner = similarity(1, 0, 80, 80)
    random = np.random.default_rng(seed)
    lanes = np.linspace(110, shape[0] + 50, len(speeds))
    starts = np.where(np.array(speeds) < 0, shape[1] + 20, random.uniform(100, 180, len(speeds)))
    pictures, truth, matrices, places = [], [], [], []
    for k in range(frames):
        time = k / fps
        there = np.column_stack([starts + np.array(speeds) * time / GSD, lanes])
        painted = ground.copy()
        for x, y in there:
            left, top = round(x - CAR[0] / 2), round(y - CAR[1] / 2)
            painted[max(top, 0) : top + CAR[1], max(left, 0) : left + CAR[0]] = (200, 60, 40)
        # pixels of this frame to those of the first one
        matrix = similarity(1, 0.01 * time, drift * time, 0.5 * drift * time)
        to_frame: Matrix = np.asarray(np.linalg.inv(corner @ matrix), np.float64)
        picture = cv2.warpPerspective(painted, _centred(to_frame), shape[::-1], flags=cv2.INTER_LINEAR)
        for key, (x, y) in enumerate(there, 1):
            outline = apply(to_frame, np.array([[x + a, y + b] for a in (-9, 9) for b in (-4.5, 4.5)]))
            low, high = outline.min(0), outline.max(0)
            middle = np.floor((low + high) / 2).astype(int)
            if (low > 1).all() and (high < np.array(shape[::-1]) - 1).all():
                picture[middle[1], middle[0]] = (MARK, 0, 0)
                truth.append([k + 1, key, *low, *(high - low), 1, 0])
        pictures.append(picture)
        matrices.append(matrix)
        places.append(there)
    return MadeFilm(np.array(pictures), np.array(truth), np.array(matrices), np.array(places), ground, corner)


def _centred(matrix: Matrix) -> Matrix:
    """The map as OpenCV takes it, whose pixels are counted from their middles."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(np.linalg.inv(half) @ matrix @ half, np.float64)


def mark_model(folder: Path) -> MapCard:
    """Write an exported program that finds the marks of made cars, with boxes of a car's size around them."""
    layer = nn.Conv2d(3, 5, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0] = 2.0  # red
        sides = np.log([CAR[1] / 2, CAR[1] / 2, CAR[0] / 2, CAR[0] / 2])
        layer.bias.copy_(torch.tensor([-2.0 * (MARK - 5), *sides]))  # type: ignore[union-attr]
    made = card("marks", ("red", "green", "blue"), ("car",), task="detection", gsd=GSD, radius=1, channels=5)
    example = torch.zeros(2, 3, made.chip_size, made.chip_size)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    return save_exported(torch.export.export(layer.eval(), (example,), dynamic_shapes=(free,)), made, folder)
