"""What outlines of objects share, in pixels of a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from geoml.nn.objects.box_matching import Pairs
from geoml.vector.boxes import Boxes, count
from geoml.vector.masks import shapes


class TrueOutlines(NamedTuple):
    """Of a picture: ``inside`` (y, x) has the number of the object whose outline holds the middle of a pixel, 0 of
    none; ``numbers`` (m,) are those of its true boxes."""

    inside: NDArray[np.int64]
    numbers: NDArray[np.int64]


def mask_shares(boxes: Boxes, truth: TrueOutlines) -> Pairs:
    """Rows of ``boxes`` with masks, rows of true boxes and the intersection over union of their outlines, where it is
    not 0: by the pixels of the picture whose middle they hold, as COCO has it (Lin et al. 2014,
    https://arxiv.org/abs/1405.0312)."""
    most = int(max(truth.inside.max(initial=0), truth.numbers.max(initial=0))) + 1
    sizes = np.bincount(truth.inside.ravel(), minlength=most)
    parts = [np.empty((0, 3))]
    for k, outline in enumerate(shapes(boxes) if count(boxes) else ()):
        numbers = truth.inside[_pixels(outline, truth.inside.shape)]
        both = np.bincount(numbers, minlength=most)[truth.numbers]
        both[truth.numbers == 0] = 0
        rows = np.flatnonzero(both)
        share = both[rows] / (len(numbers) + sizes[truth.numbers[rows]] - both[rows])
        parts.append(np.column_stack([np.full(len(rows), k), rows, share]))
    found, real, value = np.concatenate(parts).T
    return Pairs(found.astype(np.intp), real.astype(np.intp), value)


def _pixels(outline: shapely.Polygon, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of a picture whose middle a polygon holds."""
    left, top, right, bottom = outline.bounds
    (y0, y1), (x0, x1) = (
        (int(np.clip(np.floor(low), 0, n)), int(np.clip(np.ceil(high), 0, n)))
        for low, high, n in ((top, bottom, shape[0]), (left, right, shape[1]))
    )
    y, x = np.mgrid[y0:y1, x0:x1]
    shapely.prepare(outline)
    mine = shapely.contains_xy(outline, x + 0.5, y + 0.5)
    return y[mine], x[mine]
